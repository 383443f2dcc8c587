import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import type { WorkerSignal } from '../signals.ts';
import { copiesWithout, haveRoom, lostWithout, Reaches } from './reach.ts';

const EXPERTS = 6;

function worker(id: string, slots: number, can: readonly number[] | null, holds: readonly number[] = []): WorkerSignal {
  return {
    id,
    incarnation: 1n,
    group: '',
    node: '',
    ready: true,
    draining: false,
    busy: null,
    rowsPerSecond: null,
    usPerRow: 0,
    slots,
    numLayers: 1,
    numExperts: EXPERTS,
    holdings: new Map([[0, holds]]),
    loadable: can === null ? null : new Map([[0, can]]),
  };
}

/** Whether every expert finds a place, by trying everything. */
function fits(workers: readonly WorkerSignal[]): boolean {
  const left = workers.map(({ slots }) => slots);
  const place = (expert: number): boolean =>
    expert === EXPERTS ||
    workers.some(({ loadable }, at) => {
      if ((left[at] ?? 0) === 0 || loadable?.get(0)?.includes(expert) === false) return false;
      left[at] = (left[at] ?? 0) - 1;
      const done = place(expert + 1);
      left[at] = (left[at] ?? 0) + 1;
      return done;
    });
  return place(0);
}

test('there is room where a flow takes every expert, whatever each worker can load', () => {
  const can = fc.option(fc.uniqueArray(fc.nat(EXPERTS - 1), { minLength: 1 }));
  const workers = fc.array(fc.tuple(fc.nat(4), can), { minLength: 1, maxLength: 4 });
  fc.assert(
    fc.property(workers, (list) => {
      const made = list.map(([slots, able], at) => worker(`w${at}`, slots, able));
      assert.equal(haveRoom(made, new Reaches()), fits(made));
    }),
    { numRuns: 500 },
  );
});

test('an expert that is in the way moves on to who else can load it', () => {
  // The first worker could take what the second one needs the room of.
  const made = [worker('all', 3, null), worker('left', 3, [0, 1, 2])];
  assert.equal(haveRoom(made, new Reaches()), true);
  assert.equal(haveRoom([worker('all', 3, null), worker('left', 2, [0, 1, 2])], new Reaches()), false);
});

test('holdings of ready workers count, those of others and of who goes do not', () => {
  const made = [worker('a', 6, null, [0, 1, 2, 3]), worker('b', 6, null, [3, 4, 5]), worker('c', 6, null, [0, 1, 2])];
  assert.equal(lostWithout(made, new Set()), 0);
  assert.equal(lostWithout(made, new Set(['b'])), 2);
  assert.equal(lostWithout(made, new Set(['c'])), 0);
  const draining = made.map((one) => (one.id === 'a' ? { ...one, ready: false } : one));
  assert.equal(lostWithout(draining, new Set(['c'])), 3);
  assert.deepEqual([...copiesWithout(made, new Set())], [2, 2, 2, 2, 1, 1]);
});
