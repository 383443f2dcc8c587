import type { WeightFormat } from '@guildhall/native';
import type { KvDtype } from '@guildhall/model/weights';
import type { KnownModel } from '../catalogue/models.ts';
import type { Machine } from './machines.ts';
import type { Traffic } from './traffic.ts';

/** Where routed experts are: in workers, or all of them in each router. */
export type ExpertPlace = 'remote' | 'local';

/** What a plan is asked for. Lists are what may be chosen from. */
export interface PlanRequest {
  model: KnownModel;
  machines: readonly Machine[];
  /** `users` is null where it follows from the rate of requests. */
  traffic: Omit<Traffic, 'users' | 'maxStreams'> & { users: number | null };
  weights: readonly WeightFormat[];
  kvDtype: KvDtype;
  combine: readonly ('exact' | 'partial')[];
  /** Copies of each expert. */
  copies: readonly number[];
  /** Parts that layers are dealt out in; `auto` tries every number that leaves each layer its copies. */
  layerShards: 'auto' | number;
  experts: readonly ExpertPlace[];
  /** Fixed numbers; null where the plan is to choose. */
  routers: number | null;
  workers: number | null;
  /** Values of the routers' `decodeSlowdown`. */
  decodeSlowdown: readonly number[];
}
