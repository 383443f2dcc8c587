import assert from 'node:assert/strict';
import {
  type ApiTarget,
  type KnownRequest,
  Load,
  type LoadRequest,
  longestGap,
  undisturbed,
} from '@guildhall/cli/testing';
import { systemClock } from '@guildhall/common';
import { eventually } from '@guildhall/common/testing';

/** What happened to the streams that ran beside a change. */
export interface LoadFigures {
  streams: number;
  /** Longest time between two tokens of a stream, milliseconds. */
  longestPauseMs: number;
}

/** The answers of an undisturbed cluster, to compare later ones with, token by token and to the last bit of each probability. */
export async function knownAnswers(api: ApiTarget, requests: readonly LoadRequest[]): Promise<KnownRequest[]> {
  return await undisturbed(api, requests, 4, systemClock);
}

/**
 * Keeps `streams` streams going while `change` happens and until each of them has answered once more afterwards. Fails
 * when one was dropped, or one token was another than without the change.
 */
export async function underLoad(
  api: ApiTarget,
  known: readonly KnownRequest[],
  streams: number,
  change: () => Promise<void>,
): Promise<LoadFigures> {
  const load = new Load(api, known, streams, systemClock);
  const startedMs = systemClock.monotonicMs();
  try {
    await eventually(() => load.tokens.every((count) => count > 0), 'a token on every stream', 300_000);
    await change();
    const before = [...load.tokens];
    const all = (): boolean => load.tokens.every((count, lane) => count > (before[lane] ?? 0));
    await eventually(all, 'another token on every stream', 300_000);
  } finally {
    await load.stop();
  }
  const dropped = load.results.filter(({ error }) => error !== null).map(({ error }) => error);
  assert.deepEqual(dropped, [], `${dropped.length} of ${load.results.length} streams were dropped`);
  const wrong = load.results.reduce((sum, { wrongTokens }) => sum + wrongTokens, 0);
  assert.equal(wrong, 0, 'tokens that differ from an undisturbed run');
  assert.ok(load.results.length >= streams, 'every stream has ended at least once');
  return { streams: load.results.length, longestPauseMs: Math.round(longestGap(load.results, startedMs)) };
}
