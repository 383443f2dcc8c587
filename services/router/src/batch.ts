import type { BatchSpec } from '@guildhall/native';
import type { PlannedSnapshot, StateSource } from './kv/sequence-prefix.ts';
import type { Chunk, Sequence } from './sequence.ts';

/** One sequence's part of a micro-batch. */
export interface BatchItem {
  seq: Sequence;
  chunk: Chunk;
  snapshot: PlannedSnapshot | null;
}

/** Values of `initState` beside slots. */
const OWN_STATE = -1;
const ZERO_STATE = -2;

/**
 * Describes a micro-batch to the native step: rows in the order of the items, text positions equal on all three
 * axes. `hasStates` is false for models without DeltaNet layers, whose slots mean nothing.
 */
export function buildBatch(items: readonly BatchItem[], hasStates: boolean): BatchSpec {
  const total = items.reduce((sum, { chunk }) => sum + chunk.count, 0);
  const maxPages = Math.max(1, ...items.map(({ seq }) => seq.table.numPages));
  const spec: BatchSpec = {
    tokenIds: new Int32Array(total),
    positions: new Int32Array(3 * total),
    rowStart: new Int32Array(items.length),
    rowCount: new Int32Array(items.length),
    contextLen: new Int32Array(items.length),
    stateSlot: new Int32Array(items.length),
    initState: new Int32Array(items.length).fill(OWN_STATE),
    snapshotSlot: new Int32Array(items.length).fill(-1),
    snapshotRows: new Int32Array(items.length),
    mode: new Int32Array(items.length),
    pageTable: new Int32Array(items.length * maxPages),
    maxPages,
  };
  let row = 0;
  for (const [index, { seq, chunk, snapshot }] of items.entries()) {
    seq.copyTokens(chunk.start, chunk.count, spec.tokenIds, row);
    for (let i = 0; i < chunk.count; i++) spec.positions[row + i] = chunk.start + i;
    spec.rowStart[index] = row;
    spec.rowCount[index] = chunk.count;
    spec.contextLen[index] = chunk.start;
    spec.stateSlot[index] = hasStates ? (seq.slot ?? -1) : -1;
    if (hasStates) spec.initState[index] = initStateOf(seq.stateSource);
    if (hasStates && snapshot !== null) {
      spec.snapshotSlot[index] = snapshot.slot;
      spec.snapshotRows[index] = snapshot.position - chunk.start;
    }
    spec.mode[index] = chunk.mode;
    spec.pageTable.set(seq.table.ids(), index * maxPages);
    row += chunk.count;
  }
  spec.positions.copyWithin(total, 0, total);
  spec.positions.copyWithin(2 * total, 0, total);
  return spec;
}

function initStateOf(source: StateSource): number {
  return source === 'own' ? OWN_STATE : source === 'zeros' ? ZERO_STATE : source;
}

/** Sequence of each row. */
export function rowOwners(items: readonly BatchItem[]): Int32Array {
  const owners = new Int32Array(items.reduce((sum, { chunk }) => sum + chunk.count, 0));
  let row = 0;
  for (const [index, { chunk }] of items.entries()) {
    owners.fill(index, row, row + chunk.count);
    row += chunk.count;
  }
  return owners;
}

/** Micro-batches that a decode step of `count` sequences is split into. */
export function numMicroBatches(count: number, microBatches: number, microBatchMin: number): number {
  return Math.max(1, Math.min(microBatches, Math.floor(count / microBatchMin)));
}
