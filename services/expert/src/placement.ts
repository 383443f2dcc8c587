import { errorMessage, fail } from '@guildhall/common';
import { control } from '@guildhall/proto';
import type { ExpertSet } from './shard.ts';

/** What a placement gives one worker. */
export interface Assignment {
  epoch: number;
  fingerprint: string;
  numericsId: string;
  /** Empty when the placement does not name the worker. */
  experts: ExpertSet;
}

/**
 * Reads the part of a placement that concerns worker `id`. Throws `integrity` on bytes that are no placement or
 * whose worker indexes lead nowhere.
 */
export function readAssignment(bytes: Uint8Array, id: string): Assignment {
  let placement: control.Placement;
  try {
    placement = control.Placement.decode(bytes);
  } catch (err) {
    throw fail('integrity', `the stored placement cannot be read: ${errorMessage(err)}`, { cause: err });
  }
  const own = placement.workers.indexOf(id);
  const experts: ExpertSet = new Map();
  for (const { layer, counts, workers } of placement.layers) {
    const given = new Set<number>();
    let at = 0;
    for (const [expert, count] of counts.entries()) {
      const holders = workers.slice(at, at + count);
      at += count;
      if (own >= 0 && holders.includes(own)) given.add(expert);
    }
    if (at !== workers.length || workers.some((index) => index >= placement.workers.length)) {
      throw fail('integrity', `placement ${placement.epoch}, layer ${layer}: counts and workers do not fit`);
    }
    if (given.size > 0) experts.set(layer, given);
  }
  return {
    epoch: Number(placement.epoch),
    fingerprint: placement.modelFingerprint,
    numericsId: placement.numericsId,
    experts,
  };
}
