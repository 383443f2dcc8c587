import type { KvPool, ProgramLayer, StatePool } from '@guildhall/native';
import type { BuildContext } from '../layers/build-context.ts';

/** Memory that a batch's sequences own pages and slots of. */
export interface ModelPools {
  kv: KvPool;
  /** Null in models without DeltaNet layers. */
  states: StatePool | null;
}

/** One layer: a mixer over the sequence, then the gate and the shared expert of the mixture. */
export type DecoderLayer = ProgramLayer;

/** What distinguishes the models of the family. */
export interface ModelDefinition {
  /** Builds layer `index` from the checkpoint. */
  buildLayer(context: BuildContext, index: number): DecoderLayer;
}
