import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { assign, type AssignInput, type Assignment, type AssignWorker, isShortage } from './assign.ts';
import { diffAssignments, isRight } from './diff.ts';

const nothing = (): string[] => [];

function holdersOf(assignment: Assignment): (layer: number, expert: number) => string[] {
  return (layer, expert) => (assignment.holders[layer]?.[expert] ?? []).map((index) => assignment.workers[index] ?? '');
}

function solve(input: Partial<AssignInput> & { workers: AssignWorker[] }): Assignment {
  const result = assign({ numLayers: 4, numExperts: 16, current: nothing, replicas: 1, ...input });
  assert.ok(!isShortage(result));
  return result;
}

function loadOf(assignment: Assignment, id: string, layer?: number): number {
  const layers = layer === undefined ? assignment.holders : [assignment.holders[layer] ?? []];
  return layers.flat().filter((holders) => holders.some((index) => assignment.workers[index] === id)).length;
}

const equal = (...ids: string[]): AssignWorker[] => ids.map((id) => ({ id, slots: 1000 }));

test('two workers share each layer in two runs', () => {
  const { workers, holders } = solve({ numLayers: 2, numExperts: 4, workers: equal('b', 'a') });
  assert.deepEqual(workers, ['a', 'b']);
  assert.deepEqual(holders, [
    [[0], [0], [1], [1]],
    [[0], [0], [1], [1]],
  ]);
});

test('an uneven share alternates over the layers', () => {
  const assignment = solve({ numLayers: 6, numExperts: 4, workers: equal('a', 'b', 'c') });
  for (const id of ['a', 'b', 'c']) assert.equal(loadOf(assignment, id), 8);
  for (let layer = 0; layer < 6; layer++)
    for (const id of ['a', 'b', 'c']) assert.ok([1, 2].includes(loadOf(assignment, id, layer)));
});

test('shares follow memory, until memory holds the whole model', () => {
  const small = solve({
    workers: [
      { id: 'a', slots: 48 },
      { id: 'b', slots: 16 },
    ],
  });
  assert.deepEqual([loadOf(small, 'a', 0), loadOf(small, 'b', 0)], [12, 4]);
  const large = solve({
    workers: [
      { id: 'a', slots: 48_000 },
      { id: 'b', slots: 160 },
    ],
  });
  assert.deepEqual([loadOf(large, 'a', 0), loadOf(large, 'b', 0)], [8, 8]);
});

test('too little memory is a shortage that says how much', () => {
  assert.deepEqual(
    assign({ numLayers: 4, numExperts: 16, workers: [{ id: 'a', slots: 63 }], current: nothing, replicas: 1 }),
    { neededSlots: 64, slots: 63, nobody: null },
  );
  assert.deepEqual(assign({ numLayers: 4, numExperts: 16, workers: [], current: nothing, replicas: 1 }), {
    neededSlots: 64,
    slots: 0,
    nobody: null,
  });
});

test('memory that just suffices is used to the last place', () => {
  const workers = [
    { id: 'a', slots: 5 },
    { id: 'b', slots: 58 },
    { id: 'c', slots: 1 },
  ];
  const assignment = solve({ workers });
  for (const { id, slots } of workers) assert.equal(loadOf(assignment, id), slots);
});

test('replicas are on different workers, and as many as there are workers', () => {
  const two = solve({ workers: equal('a', 'b', 'c'), replicas: 2 });
  for (const holders of two.holders.flat()) assert.equal(new Set(holders).size, 2);
  const five = solve({ workers: equal('a', 'b'), replicas: 5 });
  for (const holders of five.holders.flat()) assert.deepEqual(holders, [0, 1]);
});

test('replicas that do not fit are left out; first copies are not', () => {
  const assignment = solve({
    workers: [
      { id: 'a', slots: 40 },
      { id: 'b', slots: 40 },
    ],
    replicas: 2,
  });
  assert.ok(assignment.holders.flat().every((holders) => holders.length >= 1));
  assert.equal(assignment.holders.flat(2).length, 80);
});

test('what workers hold is kept when the last placement is unknown', () => {
  const holding = (_layer: number, expert: number): string[] => (expert % 2 === 0 ? ['b'] : ['a']);
  const { workers, holders } = solve({ workers: equal('a', 'b'), current: holding });
  assert.deepEqual(
    holders[0],
    Array.from({ length: 16 }, (_, expert) => [workers.indexOf(expert % 2 === 0 ? 'b' : 'a')]),
  );
});

const shape = fc.record({
  numLayers: fc.integer({ min: 1, max: 5 }),
  numExperts: fc.integer({ min: 1, max: 24 }),
  replicas: fc.integer({ min: 1, max: 3 }),
});
const ids = fc.uniqueArray(fc.stringMatching(/^[a-z]{1,3}$/), { minLength: 1, maxLength: 6 });
const cluster = ids.chain((names) =>
  fc.tuple(...names.map((id) => fc.record({ id: fc.constant(id), slots: fc.integer({ min: 0, max: 60 }) }))),
);

function checkSound(input: AssignInput, result: Assignment): void {
  const slots = new Map(input.workers.map((worker) => [worker.id, worker.slots]));
  const used = new Map<string, number>();
  assert.equal(result.holders.length, input.numLayers);
  for (const layer of result.holders) {
    assert.equal(layer.length, input.numExperts);
    for (const holders of layer) {
      assert.ok(holders.length >= 1, 'covered');
      assert.ok(holders.length <= Math.max(1, input.replicas));
      assert.deepEqual(
        holders,
        [...new Set(holders)].sort((a, b) => a - b),
        'ascending, no repeats',
      );
      for (const index of holders) {
        const id = result.workers[index];
        assert.ok(id !== undefined);
        used.set(id, (used.get(id) ?? 0) + 1);
      }
    }
  }
  for (const [id, count] of used) assert.ok(count <= (slots.get(id) ?? 0), `${id} has more than fits`);
}

test('whatever fits is covered within memory, in any order of workers, and is then right', () => {
  fc.assert(
    fc.property(shape, cluster, fc.infiniteStream(fc.nat(6)), (size, workers, picks) => {
      const lottery = Array.from(
        { length: size.numLayers * size.numExperts },
        () => workers[picks.next().value ?? 0]?.id,
      );
      const current = (layer: number, expert: number): string[] => {
        const id = lottery[layer * size.numExperts + expert];
        return id === undefined ? ['gone'] : [id];
      };
      const input = { ...size, workers, current };
      const result = assign(input);
      const total = workers.reduce((sum, worker) => sum + Math.min(worker.slots, size.numLayers * size.numExperts), 0);
      assert.equal(isShortage(result), total < size.numLayers * size.numExperts);
      if (isShortage(result)) return;
      checkSound(input, result);
      assert.deepEqual(assign({ ...input, workers: [...workers].reverse() }), result, 'deterministic');
      assert.ok(isRight(result, input), 'right');
    }),
    { numRuns: 500 },
  );
});

test('with equal memory every layer is even to one expert', () => {
  fc.assert(
    fc.property(shape, ids, (size, names) => {
      const assignment = solve({ ...size, replicas: 1, workers: equal(...names) });
      for (let layer = 0; layer < size.numLayers; layer++) {
        const loads = names.map((id) => loadOf(assignment, id, layer));
        assert.ok(Math.max(...loads) - Math.min(...loads) <= 1);
      }
    }),
  );
});

test('with equal memory a leave moves what the leaver had and a join what the joiner gets, nothing else', () => {
  fc.assert(
    fc.property(shape, ids, fc.nat(), (size, names, pick) => {
      const joiner = 'zzzz';
      const before = solve({ ...size, replicas: 1, workers: equal(...names) });
      const grown = solve({ ...size, replicas: 1, workers: equal(...names, joiner), current: holdersOf(before) });
      const join = diffAssignments(before, grown);
      assert.equal(join.loads, loadOf(grown, joiner));
      assert.equal(join.drops, join.loads);
      const leaver = [...names, joiner][pick % (names.length + 1)] ?? joiner;
      const rest = [...names, joiner].filter((id) => id !== leaver);
      const shrunk = solve({ ...size, replicas: 1, workers: equal(...rest), current: holdersOf(grown) });
      assert.equal(diffAssignments(grown, shrunk).loads, loadOf(grown, leaver));
      assert.deepEqual(solve({ ...size, replicas: 1, workers: equal(...rest), current: holdersOf(shrunk) }), shrunk);
    }),
    { numRuns: 300 },
  );
});

test('an assignment is right for its own workers, copies and memory only', () => {
  const size = { numLayers: 4, numExperts: 16, replicas: 1 };
  const assignment = solve({ workers: equal('a', 'b') });
  assert.ok(isRight(assignment, { ...size, workers: equal('b', 'a') }));
  assert.ok(!isRight(assignment, { ...size, workers: equal('a') }), 'one left');
  assert.ok(!isRight(assignment, { ...size, workers: equal('a', 'b', 'c') }), 'one joined');
  assert.ok(!isRight(assignment, { ...size, numExperts: 17, workers: equal('a', 'b') }), 'not covered');
  assert.ok(!isRight(assignment, { ...size, replicas: 2, workers: equal('a', 'b') }), 'too few copies');
  assert.ok(
    !isRight(assignment, {
      ...size,
      workers: [
        { id: 'a', slots: 31 },
        { id: 'b', slots: 99 },
      ],
    }),
    'too much',
  );
  assert.ok(
    isRight(assignment, {
      ...size,
      replicas: 2,
      workers: [
        { id: 'a', slots: 32 },
        { id: 'b', slots: 32 },
      ],
    }),
    'no room for copies',
  );
});

test('the first placement loads everything', () => {
  assert.deepEqual(diffAssignments(null, solve({ workers: equal('a', 'b') })), { loads: 64, drops: 0 });
});

const layersFrom = (first: number, last: number): ((layer: number) => boolean) => {
  return (layer) => layer >= first && layer <= last;
};

test('workers with the files of some layers get experts of those only, one with all files the rest', () => {
  const workers = [
    { id: 'a', slots: 1000, can: layersFrom(0, 1) },
    { id: 'b', slots: 1000, can: layersFrom(2, 3) },
    { id: 'c', slots: 1000, can: null },
  ];
  const pair = solve({ workers: workers.slice(0, 2) });
  assert.deepEqual(
    [0, 1, 2, 3].map((layer) => loadOf(pair, 'a', layer)),
    [16, 16, 0, 0],
  );
  assert.deepEqual(
    [0, 1, 2, 3].map((layer) => loadOf(pair, 'b', layer)),
    [0, 0, 16, 16],
  );
  const three = solve({ workers, current: holdersOf(pair) });
  assert.deepEqual(
    [0, 1, 2, 3].map((layer) => loadOf(three, 'c', layer)).map((count) => count > 0),
    [true, true, true, true],
  );
  assert.equal(loadOf(three, 'a', 2) + loadOf(three, 'a', 3) + loadOf(three, 'b', 0) + loadOf(three, 'b', 1), 0);
  const twice = solve({ workers, replicas: 2 });
  assert.ok(twice.holders.flat().every((holders) => holders.length === 2));
});

test('experts that nobody has the files of are a shortage that names one', () => {
  const workers = [
    { id: 'a', slots: 1000, can: layersFrom(0, 2) },
    { id: 'b', slots: 1000, can: layersFrom(0, 1) },
  ];
  const result = assign({ numLayers: 4, numExperts: 16, current: nothing, replicas: 1, workers });
  assert.ok(isShortage(result));
  assert.deepEqual(result.nobody, { layer: 3, expert: 0 });
});

test('an assignment is no longer right when a holder comes back with fewer files', () => {
  const before = { numLayers: 4, numExperts: 16, replicas: 1, workers: equal('a', 'b') };
  const assignment = solve(before);
  assert.ok(isRight(assignment, before));
  const workers = [
    { id: 'a', slots: 1000, can: layersFrom(0, 1) },
    { id: 'b', slots: 1000, can: null },
  ];
  assert.ok(!isRight(assignment, { ...before, workers }));
  const moved = solve({ ...before, workers, current: holdersOf(assignment) });
  assert.ok(isRight(moved, { ...before, workers }));
  assert.ok(isRight(moved, { ...before, workers, replicas: 2 }) === false);
});
