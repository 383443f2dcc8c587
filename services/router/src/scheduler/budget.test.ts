import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '@guildhall/common';
import fc from 'fast-check';
import { PrefillAllowance, StepCostModel } from './budget.ts';

test('the regression finds the coefficients of a machine', () => {
  const model = new StepCostModel();
  const cost = (tokens: number, depth: number): number => 11 + 0.3 * tokens + (0.02 * tokens * depth) / 1024;
  for (let i = 0; i < 400; i++) {
    const tokens = 64 * (1 + (i % 8));
    const depth = 512 * (i % 13);
    model.observe({ tokens, depthTokens: tokens * depth }, cost(tokens, depth));
  }
  for (const [tokens, depth] of [
    [64, 0],
    [512, 4096],
    [256, 6000],
  ] as const) {
    const predicted = model.predict({ tokens, depthTokens: tokens * depth });
    assert.ok(Math.abs(predicted - cost(tokens, depth)) < 0.02 * cost(tokens, depth), `${predicted}`);
  }
});

test('a chunk at great depth is not a small one', () => {
  const model = new StepCostModel();
  for (let i = 0; i < 200; i++) {
    const tokens = 64 * (1 + (i % 4));
    const depth = 1000 * (i % 50);
    model.observe({ tokens, depthTokens: tokens * depth }, 1 + tokens * 0.02 + tokens * depth * 2e-6);
  }
  assert.equal(model.tokensWithin(20, 0, 512), 512);
  assert.equal(model.tokensWithin(20, 200_000, 512), 0);
});

test('a stall does not poison the regression', () => {
  const model = new StepCostModel();
  for (let i = 0; i < 50; i++) model.observe({ tokens: 8, depthTokens: 800 }, 10);
  const before = model.predict({ tokens: 8, depthTokens: 800 });
  model.observe({ tokens: 8, depthTokens: 800 }, 60_000);
  assert.ok(model.predict({ tokens: 8, depthTokens: 800 }) < before * 2);
});

test('property: predictions are finite, not negative, and monotonic in work', () => {
  const work = fc.record({
    tokens: fc.integer({ min: 1, max: 512 }),
    depth: fc.nat(200_000),
    ms: fc.double({ min: 0, max: 1e5, noNaN: true }),
  });
  fc.assert(
    fc.property(fc.array(work, { maxLength: 50 }), (steps) => {
      const model = new StepCostModel();
      for (const { tokens, depth, ms } of steps) model.observe({ tokens, depthTokens: tokens * depth }, ms);
      let last = 0;
      for (const tokens of [0, 64, 128, 512]) {
        const now = model.predict({ tokens, depthTokens: tokens * 1000 });
        assert.ok(Number.isFinite(now) && now >= last);
        last = now;
      }
      const fits = model.tokensWithin(50, 1000, 512);
      assert.ok(fits % 64 === 0 && fits >= 0 && fits <= 512);
    }),
  );
});

test('prefill runs freely while nobody decodes', async () => {
  const clock = new FakeClock();
  const allowance = new PrefillAllowance(clock);
  allowance.begin();
  await clock.advance(100_000);
  assert.equal(allowance.checkpoint(), null);
  assert.equal(allowance.end(), 100_000);
});

test('prefill waits between layers once its slice is used up, and the wait is not its cost', async () => {
  const clock = new FakeClock();
  const allowance = new PrefillAllowance(clock);
  allowance.grant(30);
  allowance.begin();
  await clock.advance(20);
  assert.equal(allowance.checkpoint(), null);
  await clock.advance(15);
  const waiting = allowance.checkpoint();
  assert.notEqual(waiting, null);
  await clock.advance(500);
  allowance.grant(30);
  await waiting;
  await clock.advance(10);
  assert.equal(allowance.checkpoint(), null);
  await clock.advance(25);
  const again = allowance.checkpoint();
  assert.notEqual(again, null);
  allowance.lift();
  await again;
  await clock.advance(1000);
  assert.equal(allowance.checkpoint(), null);
  assert.equal(allowance.end(), 20 + 15 + 10 + 25 + 1000);
});

test('a slice that one prefill step left over serves the next', async () => {
  const clock = new FakeClock();
  const allowance = new PrefillAllowance(clock);
  allowance.grant(30);
  allowance.begin();
  await clock.advance(20);
  assert.equal(allowance.end(), 20);
  allowance.begin();
  await clock.advance(9);
  assert.equal(allowance.checkpoint(), null);
  await clock.advance(1);
  assert.notEqual(allowance.checkpoint(), null);
});

test('lanes that alternate: a turn of prefill ends with its time or with its step, and nobody waits for an idle lane', async () => {
  const clock = new FakeClock();
  const allowance = new PrefillAllowance(clock);
  assert.equal(allowance.turn(30), null);
  allowance.grant(0);
  allowance.begin();
  const waiting = allowance.checkpoint();
  assert.notEqual(waiting, null);
  let over = 0;
  const turn = (): void => void allowance.turn(30)?.then(() => (over += 1));
  turn();
  await waiting;
  await clock.advance(20);
  assert.equal(allowance.checkpoint(), null);
  assert.equal(over, 0);
  await clock.advance(15);
  const again = allowance.checkpoint();
  await clock.advance(0);
  assert.equal(over, 1);
  turn();
  await again;
  await clock.advance(5);
  assert.equal(allowance.end(), 20 + 15 + 5);
  await clock.advance(0);
  assert.equal(over, 2);
});
