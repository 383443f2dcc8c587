import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { planPlacement } from '../placement/plan.ts';
import type { PlanInput } from '../placement/types.ts';
import { inputOf, messageOf } from './message.ts';
import { Planner } from './planner.ts';

const planner = new Planner();
after(() => planner.stop());

const INPUT: PlanInput = {
  numLayers: 3,
  numExperts: 8,
  topK: 2,
  expertBytes: 10,
  workers: ['e1', 'e2', 'e3'].map((id) => ({
    id,
    memoryBytes: 200,
    usPerRow: 10,
    usPerMessage: 100,
    numericsId: 'class',
    failureDomain: '',
    draining: id === 'e3',
    can: id === 'e2' ? (layer, expert) => (layer + expert) % 3 !== 0 : null,
  })),
  loads: Float64Array.from({ length: 24 }, (_, key) => (key * 37) % 11),
  samples: [Uint16Array.of(0, 1, 2, 3), null, null],
  batchTokens: 16,
  current: null,
  held: (worker, layer, expert) => worker === 'e1' && layer === 1 && expert < 5,
  minReplicas: 1,
  maxReplicas: 2,
  allowMixedNumerics: false,
  weights: { threshold: Number.POSITIVE_INFINITY, usPerExtraWorker: 5, usPerMovedMib: 0.01 },
};

test('an input that goes through a message is the same input', () => {
  const back = inputOf(structuredClone(messageOf(INPUT)));
  for (const { id } of INPUT.workers) {
    const [before, now] = [INPUT, back].map(({ workers }) => workers.find((worker) => worker.id === id));
    for (let layer = 0; layer < 3; layer++) {
      for (let expert = 0; expert < 8; expert++) {
        assert.equal(back.held(id, layer, expert), INPUT.held(id, layer, expert));
        assert.equal(now?.can?.(layer, expert), before?.can?.(layer, expert));
      }
    }
    assert.deepEqual({ ...now, can: null, held: null }, { ...before, can: null, held: null });
  }
  assert.equal(back.held('e9', 0, 0), false);
  const { workers, held } = INPUT;
  assert.deepEqual({ ...back, workers, held }, INPUT);
});

test('a plan from the thread is the plan', async () => {
  assert.deepEqual(await planner.plan(INPUT), planPlacement(INPUT));
  const second = { ...INPUT, minReplicas: 2 };
  assert.deepEqual(await planner.plan(second), planPlacement(second));
});

test('a planner that fails says so, and plans again', async () => {
  const broken = { ...INPUT, loads: null as unknown as Float64Array };
  await assert.rejects(planner.plan(broken), { code: 'internal', message: /the planner failed/ });
  assert.equal((await planner.plan(INPUT)).kind, 'planned');
  const plan = planner.plan(INPUT);
  await planner.stop();
  await assert.rejects(plan, { code: 'internal', message: /the thread has ended/ });
  assert.equal((await planner.plan(INPUT)).kind, 'planned');
});
