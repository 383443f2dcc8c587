import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '@guildhall/common';
import fc from 'fast-check';
import { type AllowanceOptions, PrefillAllowance, prefillStepMs, StepCostModel } from './budget.ts';

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
  assert.equal(model.observedTokens, 0);
  for (let i = 0; i < 50; i++) model.observe({ tokens: 8, depthTokens: 800 }, 10);
  assert.equal(model.observedTokens, 400);
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

test('a prefill step holds a full step of fresh tokens, and less at depth', () => {
  const model = new StepCostModel();
  for (let i = 0; i < 200; i++) {
    const tokens = 64 * (1 + (i % 8));
    const depth = 1000 * (i % 50);
    model.observe({ tokens, depthTokens: tokens * depth }, 1 + tokens * 0.05 + tokens * depth * 1e-5);
  }
  assert.ok(Math.abs(prefillStepMs(50, 512, model) - 200) < 1, 'four times the step budget');
  const slow = prefillStepMs(2, 512, model);
  assert.ok(Math.abs(slow - 2 * 512 * 0.05) < 3, `${slow}: twice the time of fresh tokens`);
  assert.equal(model.tokensWithin(slow, 0, 512), 512);
  assert.equal(model.tokensWithin(slow, 20_000, 512), 192);
});

/** Threads whose prefill stands still when a test says so. */
class FakeThreads {
  limits: { ms: number; alternate: boolean }[] = [];
  pausedMs = 0;

  limitPrefill(ms: number, alternate: boolean): void {
    this.limits.push({ ms, alternate });
  }

  prefillPauses(): { ms: number } {
    return { ms: this.pausedMs };
  }
}

function allowanceOf(clock: FakeClock, options: Partial<AllowanceOptions> = {}): PrefillAllowance {
  return new PrefillAllowance({ clock, threads: null, alternate: false, decodeSlowdown: 2, burstMs: 1e6, ...options });
}

test('prefill runs freely while nobody decodes', async () => {
  const clock = new FakeClock();
  const allowance = allowanceOf(clock);
  allowance.begin();
  await clock.advance(100_000);
  assert.equal(allowance.checkpoint(), null);
  assert.equal(allowance.end(), 100_000);
});

test('prefill waits between layers once its slice is used up, and the wait is not its cost', async () => {
  const clock = new FakeClock();
  const allowance = allowanceOf(clock);
  assert.equal(allowance.grant(30), 30);
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
  assert.equal(allowance.totalMs(), 20 + 15 + 10 + 25 + 1000);
});

test('a slice that one prefill step left over serves the next', async () => {
  const clock = new FakeClock();
  const allowance = allowanceOf(clock);
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

test('the threads get the slice, and what they stood still is not time used', async () => {
  const clock = new FakeClock();
  const threads = new FakeThreads();
  const allowance = allowanceOf(clock, { threads, alternate: true });
  allowance.grant(30);
  allowance.begin();
  await clock.advance(100);
  threads.pausedMs = 75;
  assert.equal(allowance.checkpoint(), null);
  assert.equal(allowance.end(), 25);
  allowance.lift();
  allowance.lift();
  assert.deepEqual(threads.limits, [
    { ms: 30, alternate: true },
    { ms: 0, alternate: true },
    { ms: Infinity, alternate: true },
  ]);
});

/** Decode steps of `ownMs` beside a prefill that uses every slice and `beyondMs` more; returns how long they took. */
async function decodeBeside(
  allowance: PrefillAllowance,
  clock: FakeClock,
  steps: { count: number; ownMs: number; beyondMs?: number },
): Promise<number> {
  const begun = clock.monotonicMs();
  for (let i = 0; i < steps.count; i++) {
    const slice = allowance.grant(25);
    allowance.begin();
    await clock.advance(slice + (steps.beyondMs ?? 0));
    allowance.end();
    await clock.advance(steps.ownMs);
  }
  return clock.monotonicMs() - begun;
}

test('a burst of prefill takes what it may at a time, a long one slows decode down by the bound', async () => {
  const clock = new FakeClock();
  const allowance = allowanceOf(clock, { decodeSlowdown: 1.5, burstMs: 500 });
  // 25 ms beside each step of 4 ms, of which the account gets 2 back.
  assert.equal(await decodeBeside(allowance, clock, { count: 20, ownMs: 4 }), 20 * 29);
  await decodeBeside(allowance, clock, { count: 100, ownMs: 4 });
  assert.equal(await decodeBeside(allowance, clock, { count: 200, ownMs: 4 }), 200 * 6);
  // What is used beyond a slice is paid back.
  const overrun = await decodeBeside(allowance, clock, { count: 200, ownMs: 4, beyondMs: 1 });
  assert.ok(Math.abs(overrun - 200 * 6) <= 2, `${overrun}`);
  // Time without decode fills the account again.
  allowance.lift();
  await clock.advance(10_000);
  assert.equal(allowance.grant(25), 25);
  assert.equal(await decodeBeside(allowance, clock, { count: 10, ownMs: 4 }), 10 * 29);
});

test('property: prefill is never shut out, and decode is slowed down by no more than the bound and the burst', async () => {
  const part = fc.record({ ownMs: fc.double({ min: 0.1, max: 200, noNaN: true }), beyondMs: fc.nat(5) });
  await fc.assert(
    fc.asyncProperty(
      fc.array(part, { minLength: 1, maxLength: 20 }),
      fc.double({ min: 1.1, max: 4, noNaN: true }),
      async (parts, decodeSlowdown) => {
        const clock = new FakeClock();
        const allowance = allowanceOf(clock, { decodeSlowdown, burstMs: 300 });
        let own = 0;
        let whole = 0;
        for (const { ownMs, beyondMs } of parts) {
          own += 20 * ownMs;
          whole += await decodeBeside(allowance, clock, { count: 20, ownMs, beyondMs });
        }
        assert.ok(whole <= own * decodeSlowdown + 300 + 25 + 20 * parts.length * 5, `${whole} of ${own}`);
        const used = allowance.totalMs();
        // Long enough to pay back the deepest account at the lowest rate.
        await decodeBeside(allowance, clock, { count: 500, ownMs: 20 });
        assert.ok(allowance.totalMs() > used + 100);
      },
    ),
    { numRuns: 8 },
  );
});
