import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SpeedMeter } from './speed.ts';

/** Numbers in [0, 1) from a seed. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1_664_525 + 1_013_904_223) % 4_294_967_296;
    return state / 4_294_967_296;
  };
}

function about(actual: number, expected: number, share: number): void {
  assert.ok(Math.abs(actual - expected) <= share * expected, `${actual}, expected about ${expected}`);
}

test('rows and messages are told apart, with noise and now and then a message that waited for a core', () => {
  const draw = random(1);
  const meter = new SpeedMeter();
  for (let i = 0; i < 3000; i++) {
    const rows = 1 + Math.floor(draw() * 40);
    const us = (150 + 12 * rows) * (0.9 + 0.2 * draw());
    meter.observe(rows, draw() < 0.01 ? us * 100 : us);
  }
  about(meter.speed.usPerRow, 12, 0.2);
  about(meter.speed.usPerMessage, 150, 0.2);
});

test('nothing is said before enough was measured, and nothing of what makes no sense', () => {
  const meter = new SpeedMeter();
  for (let i = 0; i < 199; i++) meter.observe(4, 100);
  for (const [rows, us] of [
    [0, 5],
    [3, -1],
    [Number.NaN, 5],
    [3, Number.NaN],
  ] as const)
    meter.observe(rows, us);
  assert.deepEqual(meter.speed, { usPerRow: 0, usPerMessage: 0 });
  meter.observe(4, 100);
  assert.deepEqual(meter.speed, { usPerRow: 25, usPerMessage: 0 });
});

test('a line that would fall or begin below zero is bent to one that makes sense', () => {
  const falling = new SpeedMeter();
  const steep = new SpeedMeter();
  for (let i = 0; i < 1000; i++) {
    const rows = 1 + (i % 10);
    falling.observe(rows, 500 - 20 * rows);
    steep.observe(rows, Math.max(0, 50 * rows - 100));
  }
  assert.ok(falling.speed.usPerRow > 0 && falling.speed.usPerMessage > 0);
  assert.equal(steep.speed.usPerMessage, 0);
  assert.ok(steep.speed.usPerRow > 0);
});

test('a worker that becomes slower says so in steps, not with every message', () => {
  const meter = new SpeedMeter();
  const draw = random(2);
  const said = new Set<number>();
  for (let i = 0; i < 12_000; i++) {
    const rows = 1 + Math.floor(draw() * 10);
    meter.observe(rows, (100 + 10 * rows) * (i < 4000 ? 1 : 8) * (0.95 + 0.1 * draw()));
    said.add(meter.speed.usPerRow);
  }
  about(meter.speed.usPerRow, 80, 0.3);
  assert.ok(said.size < 40, `${said.size} different things were said`);
});
