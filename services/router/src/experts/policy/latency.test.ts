import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '@guildhall/common';
import { MeasuredLatency } from './latency.ts';
import { FadingQuantiles } from './quantiles.ts';
import { seededRandom } from './random.ts';

const LIMITS = { decode: 10_000, prefill: 30_000 };

function measured(): { clock: FakeClock; latency: MeasuredLatency } {
  const clock = new FakeClock();
  return { clock, latency: new MeasuredLatency({ clock, limitMs: LIMITS }) };
}

function near(value: number, expected: number, share: number): void {
  assert.ok(Math.abs(value - expected) <= share * expected, `${value} is not near ${expected}`);
}

test('before enough was measured nothing is hedged and the limit is the deadline', () => {
  const { latency } = measured();
  for (let call = 0; call < 31; call++) {
    assert.equal(latency.hedgeAfterMs('a', 'decode', 4), Infinity);
    assert.equal(latency.deadlineMs('a', 'decode', 4), 10_000);
    latency.observe('a', 'decode', 4, 1);
  }
  latency.observe('a', 'decode', 4, 1);
  assert.ok(latency.hedgeAfterMs('a', 'decode', 4) < 10);
  assert.equal(latency.deadlineMs('a', 'decode', 4), 100);
  assert.equal(latency.deadlineMs('a', 'prefill', 4), 30_000);
});

test('who was hardly measured has a deadline by what the others take, four times as generous', () => {
  const { latency } = measured();
  for (let call = 0; call < 64; call++) latency.observe('a', 'decode', 8, 100);
  near(latency.deadlineMs('b', 'decode', 8), 4 * latency.deadlineMs('a', 'decode', 8), 0.01);
  assert.equal(latency.hedgeAfterMs('b', 'decode', 8), Infinity);
  for (let call = 0; call < 32; call++) latency.observe('b', 'decode', 8, 300);
  assert.ok(latency.deadlineMs('b', 'decode', 8) > 4 * 300);
  assert.equal(latency.deadlineMs('b', 'prefill', 8), 30_000);
});

test('a fixed part and a part per row are told apart', () => {
  const { latency } = measured();
  const random = seededRandom(1);
  for (let call = 0; call < 400; call++) {
    const rows = 1 + Math.floor(random() * 64);
    latency.observe('a', 'decode', rows, (3 + 0.5 * rows) * (0.9 + 0.2 * random()));
  }
  near(latency.predictMs('a', 'decode', 0), 3, 0.3);
  near(latency.predictMs('a', 'decode', 100), 53, 0.1);
  assert.ok(latency.hedgeAfterMs('a', 'decode', 100) > 53 && latency.hedgeAfterMs('a', 'decode', 100) < 70);
  assert.ok(latency.deadlineMs('a', 'decode', 100) > 4 * 53);
});

test('a few calls that hang do not move the prediction far, and late ones move the deadline', () => {
  const { latency } = measured();
  for (let call = 0; call < 300; call++) latency.observe('a', 'decode', 8, 40);
  const before = latency.deadlineMs('a', 'decode', 8);
  for (let call = 0; call < 5; call++) latency.observe('a', 'decode', 8, 4000);
  assert.ok(latency.predictMs('a', 'decode', 8) < 60);
  assert.ok(latency.deadlineMs('a', 'decode', 8) > 10 * before);
});

test('what set a slow worker apart is forgotten while it is not asked', async () => {
  const { clock, latency } = measured();
  for (let call = 0; call < 50; call++) {
    latency.observe('slow', 'decode', 8, 100);
    for (const fast of ['a', 'b', 'c']) latency.observe(fast, 'decode', 8, 10);
  }
  const then = latency.predictMs('slow', 'decode', 8);
  near(then, 100, 0.05);
  await clock.advance(60_000);
  assert.ok(latency.predictMs('slow', 'decode', 8) < 0.5 * then);
  latency.forget('slow');
  assert.equal(latency.predictMs('slow', 'decode', 8), latency.predictMs('never seen', 'decode', 8));
});

test('a worker that is slow beside the others is hedged although that is usual for it', () => {
  const { latency } = measured();
  for (let call = 0; call < 100; call++) {
    latency.observe('slow', 'decode', 8, 1000);
    for (let other = 0; other < 9; other++) latency.observe(`w${other}`, 'decode', 8, 5);
  }
  assert.ok(latency.hedgeAfterMs('slow', 'decode', 8) < 1000);
});

test('quantiles are within a bucket of the exact ones, and what is old fades', () => {
  const random = seededRandom(7);
  const quantiles = new FadingQuantiles();
  const values = Array.from({ length: 1000 }, () => 2 ** (4 * random() - 2));
  for (const value of values) quantiles.add(value);
  values.sort((a, b) => a - b);
  for (const q of [0.5, 0.95, 0.99]) near(quantiles.at(q), values[Math.floor(q * 1000)] ?? 0, 0.1);
  for (let i = 0; i < 20_000; i++) quantiles.add(1);
  near(quantiles.at(0.999), 1, 0.1);
});
