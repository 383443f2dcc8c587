import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  type Entries,
  entriesOf,
  mergeEntries,
  type PlanInput,
  planParts,
  replyBytes,
  requestBytes,
  splitByOwner,
} from './plan.ts';
import { seededRandom, TwoChoices, type WorkerLoads } from './policy/index.ts';

const LAYERS = 2;

/** holders[expert] are the workers of that expert in every layer. */
function tableOf(holders: readonly (readonly number[])[]): PlanInput['holders'] {
  const numExperts = holders.length;
  const start = new Int32Array(LAYERS * numExperts + 1);
  const list: number[] = [];
  for (let key = 0; key < LAYERS * numExperts; key++) {
    list.push(...(holders[key % numExperts] ?? []));
    start[key + 1] = list.length;
  }
  return { numExperts, start, list: Int32Array.from(list) };
}

/** Workers of equal speed with nothing to do; some of them may not be used. */
function loadsOf(usable: (worker: number) => boolean): WorkerLoads {
  return { rank: (worker) => (usable(worker) ? 2 : 0), startMs: () => 0, rowMs: () => 1 };
}

function inputOf(entries: Entries, holders: readonly (readonly number[])[], given: Partial<PlanInput> = {}): PlanInput {
  return {
    entries,
    layer: 1,
    holders: tableOf(holders),
    numWorkers: Math.max(-1, ...holders.flat()) + 1,
    loads: loadsOf(() => true),
    choice: new TwoChoices(seededRandom(1)),
    limits: () => ({ requestBytes: 1 << 20, replyBytes: 1 << 20 }),
    rowBytes: 32,
    replyRows: 'entries',
    ...given,
  };
}

/** (row, expert, weight, slot) of every entry, in order of the slots. */
function listed(sets: readonly Entries[]): number[][] {
  const all: number[][] = [];
  for (const set of sets) {
    let at = 0;
    for (const [row, count] of set.entryCount.entries()) {
      for (const end = at + count; at < end; at++) {
        all.push([set.rowIndex[row], set.experts[at], set.weights[at], set.slots[at]] as number[]);
      }
    }
    assert.equal(at, set.experts.length);
  }
  return all.sort((a, b) => (a[3] ?? 0) - (b[3] ?? 0));
}

test('entries are sorted by expert within a row and remember their slots', () => {
  const entries = entriesOf(Int32Array.from([5, 1, 3, 0, 7, 2]), Float32Array.from([6, 5, 4, 3, 2, 1]), 2, 3);
  assert.deepEqual([...entries.experts], [1, 3, 5, 0, 2, 7]);
  assert.deepEqual([...entries.slots], [1, 2, 0, 3, 5, 4]);
  assert.deepEqual([...entries.weights], [5, 4, 6, 3, 1, 2]);
});

test('a row goes once to each worker that holds one of its experts', () => {
  const entries = entriesOf(Int32Array.from([0, 1, 2, 3]), new Float32Array(4), 2, 2);
  const { parts, missing } = planParts(inputOf(entries, [[0], [0], [0], [1]]));
  assert.equal(missing, null);
  assert.deepEqual(
    parts.map(({ worker, rowIndex, experts }) => [worker, [...rowIndex], [...experts]]),
    [
      [0, [0, 1], [0, 1, 2]],
      [1, [1], [3]],
    ],
  );
});

test('of several holders one that gets the row anyhow is taken, then the least loaded', () => {
  const entries = entriesOf(Int32Array.from([0, 1, 0, 1, 2, 3]), new Float32Array(6), 3, 2);
  const { parts } = planParts(inputOf(entries, [[0], [0, 1], [0, 1], [0, 1]]));
  const workers = parts.map(({ worker, rowIndex }) => [worker, [...rowIndex]]);
  assert.deepEqual(workers, [
    [0, [0, 1]],
    [1, [2]],
  ]);
});

test('entries without a usable holder are handed back', () => {
  const entries = entriesOf(Int32Array.from([0, 1, 2, 3]), Float32Array.from([1, 2, 3, 4]), 2, 2);
  const { parts, missing } = planParts(
    inputOf(entries, [[0], [1], [], [0]], { loads: loadsOf((worker) => worker === 0) }),
  );
  assert.deepEqual(listed(parts), [
    [0, 0, 1, 0],
    [1, 3, 4, 3],
  ]);
  assert.deepEqual(listed(missing === null ? [] : [missing]), [
    [0, 1, 2, 1],
    [1, 2, 3, 2],
  ]);
});

test('entries are split by the sequences that their rows belong to', () => {
  const whole = entriesOf(Int32Array.from([5, 1, 3, 0, 7, 2]), Float32Array.from([6, 5, 4, 3, 2, 1]), 3, 2);
  const sets = splitByOwner(whole, (row) => (row === 1 ? 9 : 4));
  assert.deepEqual(
    sets.map(({ rowIndex, experts }) => [[...rowIndex], [...experts]]),
    [
      [
        [0, 2],
        [1, 5, 2, 7],
      ],
      [[1], [0, 3]],
    ],
  );
  assert.deepEqual(mergeEntries(sets), whole);
});

test('merging puts entries of the same row together again', () => {
  const whole = entriesOf(Int32Array.from([5, 1, 3, 0, 7, 2]), Float32Array.from([6, 5, 4, 3, 2, 1]), 2, 3);
  const { parts } = planParts(inputOf(whole, [[0], [1], [2], [0], [1], [2], [0], [1]]));
  assert.ok(parts.length > 1);
  assert.deepEqual(mergeEntries(parts), whole);
});

test('property: every entry is in exactly one message, to a holder, and every message is within its limits', () => {
  const scenario = fc
    .record({
      topK: fc.integer({ min: 1, max: 4 }),
      numExperts: fc.integer({ min: 4, max: 16 }),
      numTokens: fc.integer({ min: 1, max: 40 }),
      numWorkers: fc.integer({ min: 1, max: 5 }),
      rowBytes: fc.constantFrom(8, 64, 300),
      replyRows: fc.constantFrom('entries' as const, 'rows' as const),
      limit: fc.integer({ min: 1600, max: 6000 }),
      seed: fc.nat(),
    })
    .chain((base) =>
      fc.record({
        base: fc.constant(base),
        chosen: fc.array(
          fc.shuffledSubarray(
            Array.from({ length: base.numExperts }, (_, e) => e),
            { minLength: base.topK, maxLength: base.topK },
          ),
          {
            minLength: base.numTokens,
            maxLength: base.numTokens,
          },
        ),
        holders: fc.array(fc.subarray(Array.from({ length: base.numWorkers }, (_, w) => w)), {
          minLength: base.numExperts,
          maxLength: base.numExperts,
        }),
        down: fc.subarray(
          Array.from({ length: base.numWorkers }, (_, w) => w),
          { maxLength: Math.min(2, base.numWorkers) },
        ),
      }),
    );
  fc.assert(
    fc.property(scenario, ({ base, chosen, holders, down }) => {
      const { topK, numTokens, numWorkers, rowBytes, replyRows, limit } = base;
      const ids = Int32Array.from(chosen.flat());
      const weights = Float32Array.from(ids, (_, i) => i + 0.5);
      const input = inputOf(entriesOf(ids, weights, numTokens, topK), holders, {
        numWorkers,
        rowBytes,
        replyRows,
        loads: loadsOf((worker) => !down.includes(worker)),
        limits: () => ({ requestBytes: limit, replyBytes: limit }),
      });
      const { parts, missing } = planParts(input);
      const expected = Array.from(ids, (expert, slot) => [Math.floor(slot / topK), expert, slot + 0.5, slot]);
      assert.deepEqual(listed(missing === null ? parts : [...parts, missing]), expected);
      const seen = new Set<string>();
      for (const part of parts) {
        assert.ok(!down.includes(part.worker));
        for (const expert of part.experts) assert.ok(holders[expert]?.includes(part.worker));
        for (const row of part.rowIndex) {
          assert.ok(!seen.has(`${part.worker}/${row}`), 'a row goes twice to a worker');
          seen.add(`${part.worker}/${row}`);
        }
        assert.ok(requestBytes(part.rowIndex.length, part.experts.length, rowBytes) <= limit);
        assert.ok(replyBytes(replyRows === 'entries' ? part.experts.length : part.rowIndex.length, rowBytes) <= limit);
        assertAscending(part);
      }
      for (const expert of missing?.experts ?? []) {
        assert.ok((holders[expert] ?? []).every((worker) => down.includes(worker)));
      }
    }),
    { numRuns: 300 },
  );
});

function assertAscending(set: Entries): void {
  let at = 0;
  for (const count of set.entryCount) {
    assert.ok(count >= 1);
    for (let i = at + 1; i < at + count; i++) assert.ok((set.experts[i] as number) > (set.experts[i - 1] as number));
    at += count;
  }
  for (let i = 1; i < set.rowIndex.length; i++)
    assert.ok((set.rowIndex[i] as number) > (set.rowIndex[i - 1] as number));
}
