import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Draft } from './draft.ts';
import { LayerState } from './layer-state.ts';
import { prepare } from './problem.ts';
import { inputOf, worker } from './testing/inputs.ts';

const near = (value: number, expected: number, what: string): void => {
  assert.ok(Math.abs(value - expected) <= 1e-6 * Math.max(1, Math.abs(expected)), `${what}: ${value}, not ${expected}`);
};

const EXPERTS = 8;
const WORKERS = 4;

/** A layer with samples, workers of two speeds, and one copy of each expert. */
function stateOf(numbers: readonly number[]): LayerState {
  const workers = Array.from({ length: WORKERS }, (_, i) => worker(`w${i}`, 99, { usPerRow: 1 + (i % 2) }));
  const loads = Float64Array.from({ length: EXPERTS }, (_, i) => 1 + (numbers[i] ?? 0));
  const samples = [Uint16Array.from(numbers.flatMap((n) => [n % EXPERTS, (n + 1 + (n % 3)) % EXPERTS]))];
  const draft = new Draft(prepare(inputOf(workers, { numLayers: 1, numExperts: EXPERTS, loads, samples })));
  for (let expert = 0; expert < EXPERTS; expert++) draft.add(0, expert, expert % WORKERS);
  return new LayerState(draft, 0);
}

const numbers = fc.array(fc.nat(50), { minLength: EXPERTS, maxLength: 40 });
const steps = fc.array(
  fc.tuple(fc.nat(EXPERTS - 1), fc.integer({ min: -1, max: WORKERS - 1 }), fc.integer({ min: -1, max: WORKERS - 1 })),
  {
    maxLength: 30,
  },
);

/** Makes a step if it is one. */
function take(state: LayerState, [expert, from, to]: [number, number, number]): boolean {
  const holders = state.holders(expert);
  const leaves = from !== -1 && holders.includes(from);
  const comes = to !== -1 && !holders.includes(to);
  if ((from !== -1 && !leaves) || (to !== -1 && !comes) || from === to || (leaves && !comes && holders.length === 1))
    return false;
  state.change(expert, from, to);
  state.settle(expert, from);
  return true;
}

test('what is kept up to date equals what is computed anew', () => {
  fc.assert(
    fc.property(numbers, steps, (values, changes) => {
      const state = stateOf(values);
      for (const change of changes) take(state, change);
      const anew = new LayerState(state.draft, 0);
      for (let one = 0; one < WORKERS; one++) {
        near(state.times.time(one), anew.times.time(one), 'time');
        assert.deepEqual(
          [...(state.on[one] ?? [])].sort((a, b) => a - b),
          anew.on[one],
        );
        for (let expert = 0; expert < EXPERTS; expert++) {
          near(state.company.alone(expert, one), anew.company.alone(expert, one), 'alone');
        }
      }
      near(state.norm(), anew.norm(), 'norm');
    }),
    { numRuns: 200, seed: 1 },
  );
});

test('estimates of a step are what the step changes', () => {
  fc.assert(
    fc.property(numbers, steps, (values, changes) => {
      const state = stateOf(values);
      for (const [expert, from, to] of changes) {
        const beforeUs = Array.from({ length: WORKERS }, (_, one) => state.times.time(one));
        const holders = [...state.holders(expert)];
        if (from === -1 || to === -1 || from === to || !holders.includes(from) || holders.includes(to)) continue;
        const gone = state.rows(expert) * state.share(expert, from);
        const come = state.rows(expert) * state.shareAfter(expert, from, to);
        const fromUs = state.timeAfter(from, -gone, -1);
        const toUs = state.timeAfter(to, come, 1);
        const othersUs = state.othersPeakUs(expert, from, to);
        const powers =
          state.powerChange(from, -gone, -1) + state.powerChange(to, come, 1) + state.othersPower(expert, from, to);
        const expected = (state.norm() ** 16 / state.unitUs ** 16 + powers) ** (1 / 16) * state.unitUs;
        take(state, [expert, from, to]);
        near(state.times.time(from), fromUs, 'from');
        near(state.times.time(to), toUs, 'to');
        near(state.norm(), expected, 'norm');
        const slower = holders.filter((one) => one !== from && state.times.time(one) > (beforeUs[one] ?? 0) + 1e-9);
        near(othersUs, Math.max(0, ...slower.map((one) => state.times.time(one))), 'others');
      }
    }),
    { numRuns: 200, seed: 2 },
  );
});
