import assert from 'node:assert/strict';
import { test } from 'node:test';
import { costOf } from './cost.ts';
import { inputOf, worker } from './testing/inputs.ts';
import type { Assignment, PlanInput } from './types.ts';

const near = (value: number, expected: number): void => {
  assert.ok(Math.abs(value - expected) < 1e-9, `${value} is not ${expected}`);
};

/** One layer of four experts, two chosen, ten tokens: 20 rows, of which the first expert gets half. */
const small = (more: Partial<PlanInput> = {}): PlanInput =>
  inputOf([worker('a', 9), worker('b', 9, { usPerRow: 1, usPerMessage: 30 })], {
    numLayers: 1,
    numExperts: 4,
    batchTokens: 10,
    loads: Float64Array.of(10, 4, 4, 2),
    ...more,
  });

const split: Assignment = { workers: ['a', 'b'], holders: [[[0], [1], [1], [0]]] };

test('a worker takes its time for a message and for its rows, a layer as long as its slowest worker', () => {
  const cost = costOf(small(), split);
  // a: 20 + 12 * 2, b: 30 + 8 * 1
  near(cost.stepUs, 44);
  near(cost.imbalance, 44 / 41);
  const twice = costOf(small({ numLayers: 2, loads: Float64Array.of(10, 4, 4, 2, 0, 0, 0, 0) }), {
    workers: ['a', 'b'],
    holders: [split.holders[0] ?? [], [[0], [0], [0], [0]]],
  });
  // The second layer is even and on a alone; b has no message then.
  near(twice.stepUs, 44 + 20 + 20 * 2);
});

test('holders of one expert share its rows by their speed', () => {
  const cost = costOf(small(), { workers: ['a', 'b'], holders: [[[0, 1], [1], [1], [0]]] });
  // a, half as fast as b: a third of 10 rows, and 2 of the last expert
  near(cost.stepUs, Math.max(20 + 2 * (10 / 3 + 2), 30 + (20 / 3 + 8)));
});

test('workers per token are counted over samples, with the chance that a token goes to a holder', () => {
  const samples = [Uint16Array.of(0, 3, 0, 1)];
  near(costOf(small({ samples }), split).workersPerToken, 1.5);
  const equal = small({ samples, workers: [worker('a', 9), worker('b', 9)] });
  const replicated = { workers: ['a', 'b'], holders: [[[0, 1], [1], [1], [0]]] };
  // Of each token the first expert is on either worker with chance 1/2, the second one on one of them.
  near(costOf(equal, replicated).workersPerToken, 1.5);
});

test('without samples experts are independent of one another', () => {
  // Chances 1, 0.4, 0.4 and 0.2.
  near(costOf(small(), split).workersPerToken, 1 + (1 - 0.6 * 0.6));
});

test('bytes count for copies that are neither in force nor held', () => {
  const current: Assignment = { workers: ['b', 'gone'], holders: [[[1], [0], [0], [1]]] };
  const held = (id: string, _layer: number, expert: number): boolean => id === 'a' && expert === 3;
  assert.equal(costOf(small({ current, held }), split).bytesMoved, 2 ** 20);
  assert.equal(costOf(small(), split).bytesMoved, 4 * 2 ** 20);
});

test('copies on workers that are gone do not count, and domains are told apart', () => {
  const workers = [worker('a', 9, { failureDomain: 'x' }), worker('b', 9, { failureDomain: 'x' }), worker('c', 9)];
  const both: Assignment = {
    workers: ['a', 'b', 'gone'],
    holders: [
      [
        [0, 1],
        [0, 1],
        [0, 2],
        [0, 1],
      ],
    ],
  };
  const cost = costOf(small({ workers }), both);
  assert.deepEqual([cost.leastCopies, cost.leastDomains], [1, 1]);
  const apart: Assignment = {
    workers: ['a', 'c'],
    holders: [
      [
        [0, 1],
        [0, 1],
        [0, 1],
        [0, 1],
      ],
    ],
  };
  assert.deepEqual(
    [costOf(small({ workers }), apart).leastDomains, costOf(small({ workers }), both).leastDomains],
    [2, 1],
  );
});

test('what no worker has measured counts as what the others measured', () => {
  const workers = [worker('a', 9), worker('b', 9, { usPerRow: 0, usPerMessage: 0 })];
  const known = [worker('a', 9), worker('b', 9)];
  assert.deepEqual(costOf(small({ workers }), split), costOf(small({ workers: known }), split));
});
