import assert from 'node:assert/strict';
import { test } from 'node:test';
import { samplerParams } from './sampler.ts';

test('what is left out takes the neutral value', () => {
  assert.deepEqual(samplerParams({ seed: 3n }), {
    temperature: 1,
    topK: 0,
    topP: 1,
    minP: 0,
    repetitionPenalty: 1,
    presencePenalty: 0,
    frequencyPenalty: 0,
    seed: 3n,
    choice: 0,
    biasIds: new Int32Array(0),
    biasValues: new Float32Array(0),
    stopIds: new Int32Array(0),
    minTokens: 0,
    topLogprobs: -1,
  });
});

test('biases keep their order and seeds are taken modulo 2^64', () => {
  const params = samplerParams({
    seed: -1n,
    logitBias: new Map([
      [5, -1.5],
      [2, 100],
    ]),
    stopIds: [9, 8],
  });
  assert.deepEqual([...params.biasIds], [5, 2]);
  assert.deepEqual([...params.biasValues], [-1.5, 100]);
  assert.deepEqual([...params.stopIds], [9, 8]);
  assert.equal(params.seed, 2n ** 64n - 1n);
});
