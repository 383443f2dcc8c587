import assert from 'node:assert/strict';
import { test } from 'node:test';
import { figuresOf } from './goodput.ts';
import type { StreamedCompletion } from './http.ts';

const base: StreamedCompletion = {
  sentAt: 0,
  firstAt: 100,
  lastAt: 600,
  tokens: 11,
  promptTokens: 64,
  cachedTokens: 0,
};
const targets = { ttftMs: 200, tpotMs: 50 };

test('only requests within both targets count', () => {
  const late = { ...base, firstAt: 201, lastAt: 700 };
  const slow = { ...base, lastAt: 1000, cachedTokens: 32 };
  const { goodput, output, met, hitShare, seconds } = figuresOf([base, late, slow], targets);
  assert.equal(seconds, 1);
  assert.equal(goodput, 11);
  assert.equal(output, 33);
  assert.equal(met, 1 / 3);
  assert.equal(hitShare, 32 / 192);
});

test('targets are met at the very limit, and by answers of one token', () => {
  const edge = { ...base, firstAt: 200, lastAt: 700 };
  const one = { ...base, firstAt: 150, lastAt: 150, tokens: 1 };
  assert.equal(figuresOf([edge, one], targets).met, 1);
});

test('percentiles of the first token', () => {
  const streams = Array.from({ length: 100 }, (_, i) => ({ ...base, firstAt: i + 1 }));
  const { ttftP50, ttftP99 } = figuresOf(streams, targets);
  assert.deepEqual([ttftP50, ttftP99], [51, 100]);
});
