import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { costOf } from './cost.ts';
import { diffAssignments } from './diff.ts';
import { planPlacement } from './plan.ts';
import { anyInput, inputOf, lottery, WEIGHTS, worker } from './testing/inputs.ts';
import type { Assignment, PlanInput, PlanResult, PlanWorker } from './types.ts';

type Planned = Extract<PlanResult, { kind: 'planned' }>;

function plan(input: PlanInput): Planned {
  const result = planPlacement(input);
  assert.ok(result.kind === 'planned', result.why);
  return result;
}

/** Everything that holds for every plan. */
function checkSound(input: PlanInput, { assignment }: Planned): void {
  const byId = new Map(input.workers.map((one) => [one.id, one]));
  const used = new Map<string, number>();
  assert.equal(assignment.holders.length, input.numLayers);
  for (const [layer, experts] of assignment.holders.entries()) {
    assert.equal(experts.length, input.numExperts);
    for (const [expert, holders] of experts.entries()) {
      assert.ok(holders.length >= 1, 'covered');
      assert.ok(holders.length <= Math.max(input.minReplicas, input.maxReplicas), 'not too many copies');
      assert.deepEqual(
        holders,
        [...new Set(holders)].sort((a, b) => a - b),
        'ascending, no repeats',
      );
      const classes = new Set<string>();
      for (const index of holders) {
        const one = byId.get(assignment.workers[index] ?? '');
        assert.ok(one !== undefined, 'live');
        assert.ok(one.can === null || one.can(layer, expert), 'has the files');
        classes.add(one.numericsId);
        used.set(one.id, (used.get(one.id) ?? 0) + 1);
      }
      assert.equal(classes.size, 1, 'one numerics class');
    }
  }
  for (const [id, count] of used)
    assert.ok(count * input.expertBytes <= (byId.get(id)?.memoryBytes ?? 0), `${id} has too much`);
}

test('plans are sound from any placement, in any order of workers, and stay as they are', () => {
  fc.assert(
    fc.property(anyInput, fc.boolean(), ({ input, draw }, placed) => {
      const from = { ...input, current: placed ? lottery(input, draw) : null };
      const result = planPlacement(from);
      if (result.kind === 'short') return;
      checkSound(from, result);
      assert.deepEqual(planPlacement({ ...from, workers: [...from.workers].reverse() }), result, 'deterministic');
      const again = plan({ ...from, current: result.assignment });
      assert.ok(!again.changed, `idempotent: ${again.why}`);
      assert.deepEqual(costOf({ ...from, current: result.assignment }, result.assignment), again.cost);
    }),
    { numRuns: 150, seed: 1 },
  );
});

/** Experts that a worker holds. */
function copiesOn({ workers, holders }: Assignment, id: string): number {
  const index = workers.indexOf(id);
  return holders.flat().filter((indexes) => indexes.includes(index)).length;
}

const equal = (slots: number, ...ids: string[]): PlanWorker[] => ids.map((id) => worker(id, slots));

const zipf = (numLayers: number, numExperts: number): Float64Array =>
  Float64Array.from({ length: numLayers * numExperts }, (_, key) => 1000 / (1 + ((key * 7) % numExperts)));

test('a cluster is short exactly when its memory, or the memory of those that have the files, does not suffice', () => {
  fc.assert(
    fc.property(anyInput, ({ input }) => {
      const one = { ...input, allowMixedNumerics: true, minReplicas: 1 };
      assert.equal(planPlacement(one).kind === 'short', !coverable(one));
    }),
    { numRuns: 150, seed: 2 },
  );
});

/** In these inputs some workers have the files of the first two layers only. */
function coverable({ workers, numLayers, numExperts }: PlanInput): boolean {
  const slots = (all: PlanInput['workers']): number =>
    all.reduce((sum, { memoryBytes }) => sum + memoryBytes / 2 ** 20, 0);
  const whole = slots(workers.filter(({ can }) => can === null));
  const late = Math.max(0, numLayers - 2) * numExperts;
  return whole >= late && slots(workers) >= numLayers * numExperts && workers.length > 0;
}

test('a shortage says how much there is and how much it takes', () => {
  const short = planPlacement(inputOf(equal(63, 'a')));
  assert.deepEqual(short, {
    kind: 'short',
    why: 'the experts need 64 places and the 1 workers have 63: add workers or memory',
    neededBytes: 64 * 2 ** 20,
    memoryBytes: 63 * 2 ** 20,
  });
  const nobody = planPlacement(
    inputOf([worker('a', 99, { can: (layer) => layer < 3 }), worker('b', 99, { can: (layer) => layer < 2 })]),
  );
  assert.equal(nobody.kind, 'short');
  assert.match(nobody.why, /no worker can take expert 0 of layer 3/);
});

test('even loads are spread evenly over equal workers, and over memory where that is the limit', () => {
  const { assignment } = plan(inputOf(equal(100, 'a', 'b', 'c'), { numLayers: 3 }));
  for (const id of ['a', 'b', 'c']) assert.equal(copiesOn(assignment, id), 16);
  const tight = plan(inputOf([worker('a', 5), worker('b', 58), worker('c', 1)]));
  assert.deepEqual(
    ['a', 'b', 'c'].map((id) => copiesOn(tight.assignment, id)),
    [5, 58, 1],
  );
});

test('rows go to workers in proportion to their speed', () => {
  const workers = [worker('fast', 1000, { usPerRow: 1 }), worker('slow', 1000, { usPerRow: 3 })];
  const { assignment } = plan(inputOf(workers, { numLayers: 2, numExperts: 64 }));
  assert.equal(copiesOn(assignment, 'fast'), 96);
  assert.equal(copiesOn(assignment, 'slow'), 32);
});

test('hot experts get replicas, and not more than they may', () => {
  const loads = new Float64Array(16).fill(1);
  loads[3] = 30;
  const { assignment, cost } = plan(inputOf(equal(16, 'a', 'b', 'c', 'd'), { numLayers: 1, loads, maxReplicas: 3 }));
  assert.equal(assignment.holders[0]?.[3]?.length, 3);
  assert.ok(cost.imbalance < 1.05, `imbalance ${cost.imbalance}`);
});

test('copies are in as many failure domains as there are', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 2, max: 4 }),
      fc.array(fc.constantFrom('x', 'y', 'z', ''), { minLength: 2, maxLength: 8 }),
      fc.boolean(),
      (minReplicas, domains, hot) => {
        const workers = domains.map((failureDomain, i) => worker(`w${i}`, 64, { failureDomain }));
        const different = new Set(domains.map((name, i) => name || `w${i}`)).size;
        const loads = hot ? zipf(4, 16) : new Float64Array(64);
        const { cost } = plan(inputOf(workers, { minReplicas, maxReplicas: 4, loads }));
        assert.ok(cost.leastCopies >= Math.min(minReplicas, workers.length));
        assert.ok(cost.leastDomains >= Math.min(minReplicas, different));
      },
    ),
    { numRuns: 60, seed: 3 },
  );
});

test('memory for exactly two copies in two domains is used for copies in both', () => {
  const workers = ['a', 'b', 'c', 'd'].map((id, i) => worker(id, 32, { failureDomain: i < 2 ? 'x' : 'y' }));
  const { cost } = plan(inputOf(workers, { minReplicas: 2, loads: zipf(4, 16) }));
  assert.deepEqual([cost.leastCopies, cost.leastDomains], [2, 2]);
});

test('copies in one failure domain move apart as soon as there is another one', () => {
  const workers = ['a', 'b', 'c'].map((id) => worker(id, 64, { failureDomain: id === 'c' ? 'y' : 'x' }));
  const current: Assignment = {
    workers: ['a', 'b', 'c'],
    holders: Array.from({ length: 4 }, () => Array.from({ length: 16 }, (_, expert) => (expert < 8 ? [0, 1] : [1, 2]))),
  };
  const weights = { ...WEIGHTS, threshold: Infinity };
  const next = plan(inputOf(workers, { minReplicas: 2, maxReplicas: 2, current, weights }));
  assert.equal(next.before?.leastDomains, 1);
  assert.equal(next.cost.leastDomains, 2);
  assert.equal(next.cost.bytesMoved, 32 * 2 ** 20);
});

test('a copy that finds room only where it is already makes room elsewhere', () => {
  // The second copy of expert 2 goes to c and that of 3 to a; then 1, which is on a, has no other place.
  const current: Assignment = { workers: ['a', 'b', 'c'], holders: [[[0], [0], [1], [1]]] };
  const shape = { numLayers: 1, numExperts: 4, minReplicas: 2, maxReplicas: 2, loads: Float64Array.of(1, 1, 10, 10) };
  const next = plan(inputOf([worker('a', 4), worker('b', 2), worker('c', 2)], { ...shape, current }));
  assert.equal(next.cost.leastCopies, 2);
});

test('a draining worker is emptied where the others have room, and keeps no more than it must where not', () => {
  const before = plan(inputOf(equal(64, 'a', 'b', 'c'), { minReplicas: 2, loads: zipf(4, 16) })).assignment;
  const drain = (slots: number): Planned =>
    plan(
      inputOf([worker('a', slots), worker('b', slots), worker('c', 64, { draining: true })], {
        minReplicas: 2,
        loads: zipf(4, 16),
        current: before,
      }),
    );
  const emptied = drain(64);
  assert.ok(emptied.changed);
  assert.deepEqual(emptied.assignment.workers, ['a', 'b']);
  assert.equal(emptied.cost.leastCopies, 2);
  const tight = drain(25);
  assert.equal(copiesOn(tight.assignment, 'c'), 14);
  assert.equal(tight.cost.leastCopies, 1);
});

test('when a worker is lost, what it held moves and nothing else', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 3, max: 6 }),
      fc.integer({ min: 1, max: 2 }),
      fc.nat(5),
      (count, minReplicas, pick) => {
        const ids = Array.from({ length: count }, (_, i) => `w${i}`);
        const first = plan(inputOf(equal(64, ...ids), { minReplicas, maxReplicas: minReplicas }));
        const lost = ids[pick % count] as string;
        const rest = equal(64, ...ids.filter((id) => id !== lost));
        const next = plan(inputOf(rest, { minReplicas, maxReplicas: minReplicas, current: first.assignment }));
        assert.ok(next.changed);
        assert.match(next.why, new RegExp(`left: ${lost}$`));
        const held = copiesOn(first.assignment, lost);
        assert.deepEqual(diffAssignments(first.assignment, next.assignment), { loads: held, drops: held });
        assert.equal(next.cost.bytesMoved, held * 2 ** 20);
      },
    ),
    { numRuns: 25, seed: 4 },
  );
});

test('a worker that joins gets its share, at no worse a predicted step, and only it loads anything', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 6 }),
      fc.boolean(),
      fc.integer({ min: 1, max: 2 }),
      (count, hot, minReplicas) => {
        const ids = Array.from({ length: count }, (_, i) => `w${i}`);
        const more = { minReplicas, loads: hot ? zipf(4, 16) : new Float64Array(64), maxReplicas: 2 };
        const input = inputOf(equal(64, ...ids), more);
        const first = plan(input);
        const grown = inputOf(equal(64, ...ids, 'zz'), { ...more, current: first.assignment });
        const next = plan(grown);
        assert.ok(next.cost.stepUs < first.cost.stepUs, 'faster');
        assert.ok(copiesOn(next.assignment, 'zz') > 0);
        if (!hot) assert.equal(copiesOn(next.assignment, 'zz'), next.cost.bytesMoved / 2 ** 20);
      },
    ),
    { numRuns: 25, seed: 5 },
  );
});

test('adding a worker never makes the predicted step slower, whatever is in force', () => {
  let compared = 0;
  fc.assert(
    fc.property(anyInput, ({ input: any }) => {
      // Workers per token are worth a lot, but no slower step to a placement that is in force.
      const input = { ...any, minReplicas: 1, weights: { ...WEIGHTS, usPerExtraWorker: 100 } };
      const [joiner, ...others] = input.workers;
      const before = planPlacement({ ...input, workers: others });
      if (before.kind === 'short' || joiner === undefined) return;
      const next = plan({ ...input, current: before.assignment });
      // Another numerics class that covers everything without a draining worker comes before time.
      if (joiner.draining || input.workers.some(({ draining }) => draining)) return;
      compared += 1;
      assert.ok(next.cost.stepUs <= before.cost.stepUs * (1 + 1e-9));
    }),
    { numRuns: 150, seed: 6 },
  );
  assert.ok(compared > 20, `${compared} compared`);
});

test('a right placement stays for as long as the gain is under the threshold, and moves beyond it', () => {
  const first = plan(inputOf(equal(64, 'a', 'b')));
  const shifted = (more: number): Planned => {
    const loads = Float64Array.from(
      { length: 64 },
      (_, key) => 100 + (first.assignment.holders.flat()[key]?.[0] === 0 ? more : 0),
    );
    return plan(inputOf(equal(64, 'a', 'b'), { loads, current: first.assignment }));
  };
  const little = shifted(10);
  assert.ok(!little.changed);
  assert.equal(little.assignment, first.assignment);
  assert.match(little.why, /less than 10\.0 %/);
  const much = shifted(300);
  assert.ok(much.changed);
  assert.ok(much.cost.stepUs < 0.8 * (much.before?.stepUs ?? 0));
  assert.match(much.why, /instead of/);
});

test('a gain that is not worth the bytes moves nothing', () => {
  const first = plan(inputOf(equal(64, 'a', 'b')));
  const loads = Float64Array.from({ length: 64 }, (_, key) =>
    first.assignment.holders.flat()[key]?.[0] === 0 ? 4 : 1,
  );
  const weights = { threshold: 0.1, usPerExtraWorker: 5, usPerMovedMib: 1000 };
  const next = plan(inputOf(equal(64, 'a', 'b'), { loads, current: first.assignment, weights }));
  assert.ok(!next.changed);
});

test('what workers hold is kept when the last placement is unknown', () => {
  const held = (id: string, _layer: number, expert: number): boolean => (expert % 2 === 0 ? id === 'b' : id === 'a');
  const { assignment, cost } = plan(inputOf(equal(64, 'a', 'b'), { held }));
  assert.deepEqual(
    assignment.holders[0],
    Array.from({ length: 16 }, (_, expert) => [expert % 2 === 0 ? 1 : 0]),
  );
  assert.equal(cost.bytesMoved, 0);
});

test('replicas of an expert share a numerics class, and one class serves all unless they may mix', () => {
  const workers = [...equal(40, 'a', 'b'), ...['c', 'd', 'e'].map((id) => worker(id, 40, { numericsId: 'm' }))];
  const apart = plan(inputOf(workers, { minReplicas: 2 }));
  assert.deepEqual(apart.assignment.workers, ['c', 'd', 'e']);
  // The class in force stays for as long as it covers everything.
  const kept = plan(inputOf(workers, { current: plan(inputOf(equal(40, 'a', 'b'))).assignment }));
  assert.deepEqual(kept.assignment.workers, ['a', 'b']);
  const mixed = plan(inputOf(workers, { minReplicas: 2, allowMixedNumerics: true }));
  assert.equal(mixed.assignment.workers.length, 5);
  assert.equal(mixed.cost.leastCopies, 2);
});

test('experts that tokens choose together are put together where workers per token are worth it', () => {
  // Tokens choose two experts of one half or two of the other one, which is no matter of numbers.
  const groups = [
    [0, 3, 5, 6, 9, 10, 12, 15],
    [1, 2, 4, 7, 8, 11, 13, 14],
  ] as const;
  const pairs = groups.flatMap((group) => group.flatMap((a, i) => group.slice(i + 1).flatMap((b) => [a, b])));
  const input = inputOf(equal(64, 'a', 'b'), {
    numLayers: 1,
    samples: [Uint16Array.from(pairs)],
    maxReplicas: 1,
  });
  const { cost } = plan({ ...input, weights: { ...WEIGHTS, usPerExtraWorker: 50 } });
  assert.equal(cost.workersPerToken, 1);
  assert.equal(cost.imbalance, 1);
  const apart = plan({ ...input, weights: { ...WEIGHTS, usPerExtraWorker: 0 } });
  assert.ok(apart.cost.workersPerToken > 1.2);
});

test('a plan for the shape of the 397B model on hundreds of workers fits, covers and spreads', () => {
  const shape = { numLayers: 6, numExperts: 512, topK: 10, maxReplicas: 16 };
  const input = inputOf(equal(12, ...Array.from({ length: 512 }, (_, i) => `w${i}`)), {
    ...shape,
    loads: zipf(6, 512),
  });
  const result = plan(input);
  checkSound(input, result);
  assert.ok(result.cost.imbalance < 1.3, `imbalance ${result.cost.imbalance}`);
});
