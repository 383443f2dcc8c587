import {
  errorMessage,
  fail,
  type LeaderFence,
  type Logger,
  type PlacementStore,
  type PublishResult,
} from '@guildhall/common';
import { control } from '@guildhall/proto';
import type { Assignment, PlanCost } from '../placement/types.ts';

/** A placement as the controller thinks of it. */
export interface PlacementRecord {
  epoch: number;
  fingerprint: string;
  numericsId: string;
  assignment: Assignment;
  /** What it was predicted to cost when it was made; null where that is not known. */
  predicted: PlanCost | null;
}

/** Reads a stored placement. Throws `integrity`. */
export function decodePlacement(bytes: Uint8Array): PlacementRecord {
  try {
    const placement = control.Placement.decode(bytes);
    const holders: number[][][] = [];
    for (const { layer, counts, workers } of placement.layers) {
      let begin = 0;
      holders[layer] = counts.map((count) => workers.slice(begin, (begin += count)));
    }
    return {
      epoch: Number(placement.epoch),
      fingerprint: placement.modelFingerprint,
      numericsId: placement.numericsId,
      assignment: { workers: placement.workers, holders },
      predicted: costOf(placement.predicted),
    };
  } catch (err) {
    throw fail('integrity', `the stored placement cannot be read: ${errorMessage(err)}`, { cause: err });
  }
}

/** Bytes of a placement. */
export function encodePlacement(record: PlacementRecord, reason: string, createdMs: number): Uint8Array {
  const layers = record.assignment.holders.map((experts, layer) => ({
    layer,
    counts: experts.map((holders) => holders.length),
    workers: experts.flat(),
  }));
  return control.Placement.encode({
    epoch: BigInt(record.epoch),
    modelFingerprint: record.fingerprint,
    numericsId: record.numericsId,
    workers: record.assignment.workers,
    layers,
    reason,
    createdMs: BigInt(createdMs),
    predicted: wireCost(record.predicted),
  }).finish();
}

function costOf(cost: control.PlacementCost | undefined): PlanCost | null {
  if (cost === undefined) return null;
  const { stepUs, imbalance, workersPerToken, bytesMoved, leastCopies, leastDomains } = cost;
  return { stepUs, imbalance, workersPerToken, bytesMoved: Number(bytesMoved), leastCopies, leastDomains };
}

function wireCost(cost: PlanCost | null): control.PlacementCost | undefined {
  return cost === null ? undefined : { ...cost, bytesMoved: BigInt(Math.round(cost.bytesMoved)) };
}

/** What the placement controller needs of the store. */
export interface Placements {
  /** The current epoch in Redis, 0 for none. */
  currentEpoch(): Promise<number>;
  read(epoch: number): Promise<PlacementRecord | null>;
  publish(
    expectedCurrent: number,
    record: PlacementRecord,
    reason: string,
    createdMs: number,
    leader: LeaderFence,
  ): Promise<PublishResult>;
}

/** The placements in Redis. One that cannot be read counts as absent: the next one replaces it. */
export function redisPlacements(store: PlacementStore, logger: Logger): Placements {
  return {
    currentEpoch: () => store.currentEpoch(),
    async read(epoch) {
      const stored = await store.read(epoch);
      try {
        return stored === null ? null : decodePlacement(stored.bytes);
      } catch (err) {
        logger.error({ epoch, reason: errorMessage(err) }, 'the stored placement is damaged');
        return null;
      }
    },
    publish: (expectedCurrent, record, reason, createdMs, leader) =>
      store.publish(expectedCurrent, record.epoch, encodePlacement(record, reason, createdMs), leader),
  };
}
