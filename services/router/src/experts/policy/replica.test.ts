import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { seededRandom } from './random.ts';
import { TwoChoices } from './replica.ts';
import type { WorkerRank } from './types.ts';

interface Worker {
  rank?: WorkerRank;
  startMs?: number;
  rowMs?: number;
}

function choice(workers: readonly Worker[], seed = 1): TwoChoices {
  const choices = new TwoChoices(seededRandom(seed));
  choices.begin(workers.length, {
    rank: (worker) => workers[worker]?.rank ?? 2,
    startMs: (worker) => workers[worker]?.startMs ?? 0,
    rowMs: (worker) => workers[worker]?.rowMs ?? 1,
  });
  return choices;
}

/** Sends `rows` entries of rows of their own to these holders, and counts them by worker. */
function spread(workers: readonly Worker[], rows: number): number[] {
  const list = Int32Array.from(workers.keys());
  const choices = choice(workers);
  const counts = workers.map(() => 0);
  for (let row = 0; row < rows; row++) {
    const worker = choices.choose(list, 0, list.length, row);
    choices.assign(worker, row);
    counts[worker] = (counts[worker] ?? 0) + 1;
  }
  return counts;
}

test('rows are spread by how fast their holders are', () => {
  assert.deepEqual(spread([{}, {}], 100), [50, 50]);
  const [fast = 0, slow = 0] = spread([{ rowMs: 1 }, { rowMs: 3 }], 400);
  assert.ok(Math.abs(fast - 300) <= 2 && Math.abs(slow - 100) <= 2, `${fast} ${slow}`);
});

test('a worker with rows waiting gets none until the others have as many', () => {
  const [idle = 0, busy = 0] = spread([{}, { startMs: 30 }], 50);
  assert.ok(idle === 40 && busy === 10, `${idle} ${busy}`);
});

test('with many holders two are looked at, and the load is still even', () => {
  const counts = spread(
    Array.from({ length: 8 }, () => ({})),
    800,
  );
  assert.ok(Math.max(...counts) - Math.min(...counts) <= 12, counts.join(' '));
});

test('the entries of a row stay together, unless that worker is far behind', () => {
  const list = Int32Array.of(0, 1);
  const choices = choice([{}, {}]);
  const first = choices.choose(list, 0, 2, 0);
  choices.assign(first, 0);
  for (let entry = 1; entry < 9; entry++) {
    assert.equal(choices.choose(list, 0, 2, 0), first);
    choices.assign(first, 0);
  }
  assert.equal(choices.choose(list, 0, 2, 0), 1 - first);
});

test('a lower rank is used where there is no higher one, and rank 0 never', () => {
  const choices = choice([{ rank: 0 }, { rank: 1, startMs: 0 }, { rank: 2, startMs: 1e6 }]);
  assert.equal(choices.choose(Int32Array.of(0, 1, 2), 0, 3, 0), 2);
  assert.equal(choices.choose(Int32Array.of(0, 1), 0, 2, 0), 1);
  assert.equal(choices.choose(Int32Array.of(0), 0, 1, 0), -1);
  assert.equal(choices.choose(Int32Array.of(0), 0, 0, 0), -1);
});

test('only a holder of the highest rank is chosen, the same for the same seed', () => {
  const ranks = fc.array(fc.constantFrom<WorkerRank>(0, 1, 2), { minLength: 1, maxLength: 9 });
  fc.assert(
    fc.property(ranks, fc.nat(), (given, seed) => {
      const workers = given.map((rank, i) => ({ rank, startMs: (i * 7) % 5, rowMs: 1 + (i % 3) }));
      const list = Int32Array.from(workers.keys());
      const [a, b] = [choice(workers, seed), choice(workers, seed)];
      const best = Math.max(...given);
      for (let row = 0; row < 20; row++) {
        const chosen = a.choose(list, 0, list.length, row >> 2);
        assert.equal(b.choose(list, 0, list.length, row >> 2), chosen);
        if (best === 0) assert.equal(chosen, -1);
        else assert.equal(given[chosen], best);
        if (chosen < 0) return;
        a.assign(chosen, row >> 2);
        b.assign(chosen, row >> 2);
      }
    }),
    { seed: 5, numRuns: 200 },
  );
});
