import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ReadCost } from './read-cost.ts';

function near(actual: number, expected: number, share = 0.15): void {
  assert.ok(Math.abs(actual - expected) <= share * expected, `${actual} is not about ${expected}`);
}

test('before anything was read it is a plain disk', () => {
  const cost = new ReadCost();
  near(cost.predictMs(0), 0.2);
  near(cost.predictMs(100_000_000), 200);
});

test('a disk that seeks for long and reads slowly is known after some files of different sizes', () => {
  const cost = new ReadCost();
  for (let i = 0; i < 100; i++) {
    const bytes = (i % 10) * 200_000;
    cost.observe(bytes, 8 + bytes / 100_000);
  }
  near(cost.predictMs(1000), 8);
  near(cost.predictMs(10_000_000), 108);
});

test('small files that are slow do not make large ones look hopeless', () => {
  const cost = new ReadCost();
  for (let i = 0; i < 200; i++) cost.observe(4000, 5 + (i % 3));
  near(cost.predictMs(4000), 6);
  assert.ok(cost.predictMs(100_000_000) < 300);
});

test('large files of one size tell the rate', () => {
  const cost = new ReadCost();
  for (let i = 0; i < 200; i++) cost.observe(1_000_000, 10);
  near(cost.predictMs(1_000_000), 10);
  near(cost.predictMs(50_000_000), 500);
});
