import assert from 'node:assert/strict';
import { resolve } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { loadsOf, part, tokensOf } from './gate-trace.ts';
import { recordedTrace } from './recorded.ts';
import { type Cluster, plainEplb, replay, roundRobin } from './subjects.ts';
import { zipfTrace } from './zipf.ts';

const ROOT = resolve(fileURLToPath(new URL('../../..', import.meta.url)));
const SHAPE = {
  seed: 3,
  numLayers: 2,
  numExperts: 32,
  topK: 4,
  tokens: 500,
  exponent: 1,
  topics: 4,
  together: 0.5,
  turn: 0,
};

test('a drawn trace depends on its shape alone, its sets have no repeats, and a turn shifts its load', () => {
  const trace = zipfTrace(SHAPE);
  assert.deepEqual(zipfTrace(SHAPE), trace);
  for (let token = 0; token < tokensOf(trace); token++) {
    for (const sets of part(trace, token, token + 1).layers) assert.equal(new Set(sets).size, 4);
  }
  const sorted = [...loadsOf(trace).subarray(0, 32)].sort((a, b) => b - a);
  assert.ok((sorted[0] ?? 0) > 4 * (sorted[16] ?? 0), 'some experts are hot');
  assert.notDeepEqual(loadsOf(zipfTrace({ ...SHAPE, turn: 1 })), loadsOf(trace));
});

test('the recorded gates of tiny have two experts of sixteen for each token and layer', () => {
  for (const name of ['chat', 'recall']) {
    const trace = recordedTrace(ROOT, name);
    assert.deepEqual([trace.numLayers, trace.numExperts, trace.topK], [8, 16, 2]);
    assert.ok(tokensOf(trace) > 1000);
    for (const sets of trace.layers)
      assert.ok(sets.length === trace.layers[0]?.length && sets.every((expert) => expert < 16));
  }
});

test('a replay takes as long as the slowest worker of each step', () => {
  const cluster: Cluster = {
    numWorkers: 2,
    replicas: 4,
    expertBytes: 1,
    usPerRow: 1,
    usPerMessage: 10,
    batchTokens: 2,
    weights: { threshold: 0, usPerExtraWorker: 100, usPerMovedMib: 0 },
  };
  const trace = { numLayers: 1, numExperts: 4, topK: 1, layers: [Uint16Array.of(0, 2, 1, 2)] };
  // Worker 0 has experts 0 and 2: two rows in the first step, one in the second.
  const outcome = replay(cluster, trace, roundRobin(cluster, trace), null);
  assert.equal(outcome.replayedUs, (12 + 11) / 2);
  assert.equal(outcome.timeUs, 11.5 + 100);
  assert.equal(plainEplb(cluster, trace).holders[0]?.flat().length, 4);
});
