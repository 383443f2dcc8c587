import type { CombineMode, RowFormat } from '@guildhall/native';

/** What a worker is, as its hello states it. */
export interface WorkerIdentity {
  id: string;
  incarnation: bigint;
  fingerprint: string;
  numericsId: string;
  rowFormat: RowFormat;
  combine: CombineMode;
  hidden: number;
  numLayers: number;
  numExperts: number;
  topK: number;
  maxMessageBytes: number;
  maxQueued: number;
}

/** Bytes of one row. */
export function rowBytes(identity: Pick<WorkerIdentity, 'hidden' | 'rowFormat'>): number {
  return identity.hidden * (identity.rowFormat === 'f32' ? 4 : 2);
}
