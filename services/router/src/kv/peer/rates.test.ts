import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '@guildhall/common';
import fc from 'fast-check';
import { StepCostModel } from '../../scheduler/budget.ts';
import { prefillMs, PullRates } from './rates.ts';
import { PeerStanding } from './standing.ts';

const MB = 1 << 20;

test('rates are learnt for each holder, and forgotten again', async () => {
  const clock = new FakeClock();
  const rates = new PullRates({ clock, bytesPerSecond: 1000 * MB, latencyMs: 2 });
  assert.equal(rates.pullMs('a', 100 * MB), 2 + 100);
  for (let i = 0; i < 30; i++) rates.observe('a', { bytes: 10 * MB, latencyMs: 20, ms: 1020 });
  const slow = rates.pullMs('a', 100 * MB);
  assert.ok(Math.abs(slow - 10_020) < 10, String(slow));
  assert.equal(rates.pullMs('b', 100 * MB), 102);
  await clock.advance(120_000);
  const half = rates.pullMs('a', 100 * MB);
  assert.ok(Math.abs(half - (slow + 102) / 2) < 10, String(half));
  await clock.advance(3_600_000);
  assert.ok(Math.abs(rates.pullMs('a', 100 * MB) - 102) < 1);
});

test('a small transfer says something about the latency only', () => {
  const rates = new PullRates({ clock: new FakeClock(), bytesPerSecond: 1000 * MB, latencyMs: 2 });
  rates.observe('a', { bytes: 100, latencyMs: 12, ms: 500 });
  assert.equal(rates.pullMs('a', 0), 5);
  assert.ok(Math.abs(rates.pullMs('a', 100 * MB) - 105) < 1e-9);
});

test('putting bytes into the pool is measured as well', () => {
  const rates = new PullRates({ clock: new FakeClock(), bytesPerSecond: MB, latencyMs: 0 });
  assert.equal(rates.importMs(MB), 0);
  rates.observeImport(MB, 4);
  assert.equal(rates.importMs(2 * MB), 8);
});

test('property: predictions are finite, not negative and grow with the bytes', () => {
  const transfer = fc.record({
    holder: fc.constantFrom('a', 'b'),
    bytes: fc.nat(1e9),
    latencyMs: fc.double({ min: 0, max: 1e5, noNaN: true }),
    ms: fc.double({ min: 0, max: 1e5, noNaN: true }),
  });
  fc.assert(
    fc.property(fc.array(transfer, { maxLength: 30 }), (transfers) => {
      const rates = new PullRates({ clock: new FakeClock(), bytesPerSecond: 100 * MB, latencyMs: 1 });
      for (const { holder, ...figures } of transfers) rates.observe(holder, figures);
      let last = 0;
      for (const bytes of [0, 1, MB, 100 * MB]) {
        const ms = rates.pullMs('a', bytes);
        assert.ok(Number.isFinite(ms) && ms >= last);
        last = ms;
      }
    }),
  );
});

test('prefill of a span costs what its steps cost', () => {
  const cost = new StepCostModel();
  for (const [from, to] of [
    [0, 4096],
    [640, 1000],
    [8192, 8192 + 512],
  ] as const) {
    let steps = 0;
    for (let at = from; at < to; at += 512) {
      const tokens = Math.min(512, to - at);
      steps += cost.predict({ tokens, depthTokens: tokens * (at + tokens / 2) });
    }
    const whole = prefillMs(cost, { from, to, chunkTokens: 512 });
    assert.ok(Math.abs(whole - steps) < 1e-6 * steps, `${whole} and ${steps}`);
  }
  assert.equal(prefillMs(cost, { from: 64, to: 64, chunkTokens: 512 }), 0);
});

test('a holder that fails is left alone for longer each time, and comes back when it serves', async () => {
  const clock = new FakeClock();
  const standing = new PeerStanding(clock);
  assert.equal(standing.avoided('a'), false);
  assert.equal(standing.failed('a', 'stalled'), true);
  assert.ok(standing.avoided('a') && !standing.avoided('b'));
  await clock.advance(2001);
  assert.equal(standing.avoided('a'), false);
  assert.equal(standing.failed('a', 'stalled'), false);
  assert.equal(standing.failed('a', 'checksum'), true);
  await clock.advance(4001);
  assert.equal(standing.avoided('a'), true);
  standing.succeeded('a');
  assert.equal(standing.avoided('a'), false);
  assert.equal(standing.failed('a', 'busy'), true);
  await clock.advance(501);
  assert.equal(standing.avoided('a'), false);
});

test('routers that do not fit together are left alone for minutes', async () => {
  const clock = new FakeClock();
  const standing = new PeerStanding(clock);
  standing.failed('a', 'refused');
  await clock.advance(290_000);
  assert.equal(standing.avoided('a'), true);
  await clock.advance(10_001);
  assert.equal(standing.avoided('a'), false);
});
