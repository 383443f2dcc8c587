import assert from 'node:assert/strict';
import { beforeEach, test } from 'node:test';
import { createMetrics, FakeClock, type GuildhallError } from '@guildhall/common';
import { silentLogger } from '@guildhall/common/testing';
import { Checkpoint, ExpertBytes, WeightReader } from '@guildhall/model/weights';
import { type ExpertShard, loadNative } from '@guildhall/native';
import { Shard } from './shard.ts';
import { MODEL } from './testing/worker-bench.ts';
import { LoadPace } from './weights/load-pace.ts';
import type { LoadSource } from './weights/weight-sources.ts';

const SIGNAL = new AbortController().signal;
const LOADING = { urgent: true, signal: SIGNAL };

let native: ExpertShard;
let problems: string[];
let kept: ExpertBytes[];
let source: LoadSource;
let failing: Error | null;
/** What packing throws. */
let packing: Error | null;

const checkpoint = Checkpoint.open(MODEL);

function shardOf(capacityBytes = 1 << 30): Shard {
  const { numLayers, hidden, moe } = checkpoint.config;
  const { numExperts, intermediate } = moe;
  const runtime = new (loadNative().Runtime)({ threads: 1, isa: 'auto', bf16Kernels: 'auto' });
  const options = { numLayers, numExperts, hidden, intermediate, format: 'f32', rowFormat: 'f32' } as const;
  const real = new (loadNative().ExpertShard)(runtime, options);
  native = {
    expertBytes: real.expertBytes,
    has: (...args) => real.has(...args),
    held: (layer) => real.held(layer),
    load: (...args) => (packing === null ? real.load(...args) : Promise.reject(packing)),
    loadAll: (...args) => real.loadAll(...args),
    unload: (...args) => real.unload(...args),
    forward: (...args) => real.forward(...args),
  };
  const clock = new FakeClock();
  return new Shard({
    native,
    weights: WeightReader.plain(checkpoint),
    sources: {
      read: async (layer, expert) => {
        if (failing !== null) throw failing;
        return { bytes: await ExpertBytes.read(checkpoint, layer, expert), source };
      },
      keep: (bytes) => {
        kept.push(bytes);
        return Promise.resolve();
      },
    },
    pace: new LoadPace({ clock, quietMs: () => Infinity, bytesPerSecond: 0 }),
    problems: {
      set: (kind: string, err: GuildhallError | null) => void problems.push(`${kind} ${err?.code ?? 'over'}`),
    },
    model: checkpoint.config,
    clock,
    logger: silentLogger(),
    metrics: createMetrics('expert'),
    capacityBytes,
    onChange: () => undefined,
  });
}

beforeEach(() => {
  problems = [];
  kept = [];
  source = 'disk';
  failing = null;
  packing = null;
});

test('what came from a peer is kept, what is here already is not', async () => {
  const shard = shardOf();
  assert.equal(await shard.load(0, 1, LOADING), 'loaded');
  assert.equal(kept.length, 0);
  source = 'peer';
  assert.equal(await shard.load(0, 2, LOADING), 'loaded');
  assert.deepEqual(
    kept.map(({ layer, expert }) => [layer, expert]),
    [[0, 2]],
  );
  assert.deepEqual(shard.held(), [{ layer: 0, experts: [1, 2] }]);
});

for (const [what, err] of [
  ['native memory', Object.assign(new Error('out of memory'), { code: 'NATIVE_FAILURE' })],
  ['buffers of the engine', new RangeError('Array buffer allocation failed')],
] as const) {
  test(`without ${what} the worker keeps what it holds and announces no more`, async () => {
    const shard = shardOf();
    await shard.load(0, 0, LOADING);
    packing = err;
    assert.equal(await shard.load(0, 1, LOADING), 'no_memory');
    assert.deepEqual(problems, ['memory out_of_memory']);
    shard.lowerCapacity();
    assert.equal(shard.capacityBytes, native.expertBytes);
    packing = null;
    // Room for an exchange: what comes may come before what goes.
    assert.equal(await shard.load(0, 1, LOADING), 'loaded');
    await shard.loaded();
    assert.deepEqual(problems.slice(1), ['expert over', 'memory over']);
  });
}

test('more than the capacity and a quarter is not held', async () => {
  shardOf();
  const shard = shardOf(native.expertBytes * 4);
  const results = [];
  for (let expert = 0; expert < 7; expert++) results.push(await shard.load(0, expert, LOADING));
  assert.deepEqual(results, ['loaded', 'loaded', 'loaded', 'loaded', 'loaded', 'no_memory', 'no_memory']);
  assert.equal(
    shard.makeRoom(new Map([[0, new Set([1, 2, 3, 4, 5])]]), () => true),
    true,
  );
  assert.equal(await shard.load(0, 5, LOADING), 'loaded');
  assert.deepEqual(shard.held(), [{ layer: 0, experts: [1, 2, 3, 4, 5] }]);
});

test('other failures are told with their code, and a cancelled load is none', async () => {
  const shard = shardOf();
  await assert.doesNotReject(shard.load(0, 0, LOADING));
  failing = new Error('boom');
  assert.equal(await shard.load(0, 1, LOADING), 'failed');
  assert.deepEqual(problems, ['expert internal']);
  const abort = new AbortController();
  abort.abort();
  assert.equal(await shard.load(0, 2, { urgent: false, signal: abort.signal }), 'cancelled');
  assert.equal(problems.length, 1);
});
