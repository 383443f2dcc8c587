import type { MeasuredLoads } from '../loads/controller.ts';
import type { Speed } from '../speeds/controller.ts';
import type { Loading } from '../stalls/controller.ts';
import type { LiveWorkers } from '../workers/controller.ts';

/** All that a placement is decided by, as the other controllers see it now. */
export interface Observed extends Loading {
  live: LiveWorkers;
  /** Ids of workers that are to give up their experts. */
  draining: ReadonlySet<string>;
  speeds: ReadonlyMap<string, Speed>;
  measured: MeasuredLoads;
}
