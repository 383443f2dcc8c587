/** Handles that die during a call, environments that end during one, and a loop that ends when nothing is in flight. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { Worker } from 'node:worker_threads';

import { LittleModel } from './model.ts';
import {
  Random,
  assertSameBits,
  batchOf,
  deltaNetSpec,
  deltaNetWeights,
  expertWeights,
  headSpec,
  headWeights,
  makeRuntime,
  makeStates,
  makeStep,
  native,
  sizes,
} from './support.ts';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

const scratch = mkdtempSync(join(tmpdir(), 'guildhall-native-'));
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }));

const pause = () => new Promise((resolve) => setImmediate(resolve));

async function collectAll(): Promise<void> {
  for (let i = 0; i < 5; i++) {
    collect();
    await pause();
  }
}

/** A forward whose handles are unreachable as soon as it has been started. */
function startAndForget(): Promise<void> {
  const runtime = makeRuntime({ threads: 2 });
  const random = new Random(5);
  const step = makeStep(runtime);
  step.setBatch(batchOf([{ tokens: Array.from({ length: 300 }, (_, i) => i % 70), slot: 0 }]));
  const block = new native.GatedDeltaNet(runtime, deltaNetSpec('f32'), deltaNetWeights(random));
  return block.forward(step, makeStates(runtime), 'prefill');
}

test('handles may be collected while a forward uses them', async () => {
  const pending = Array.from({ length: 20 }, startAndForget);
  await collectAll();
  await Promise.all(pending);
});

test('sources of an expert may be collected while it is packed', async () => {
  const { hidden, intermediate, numExperts } = sizes;
  const runtime = makeRuntime();
  const options = {
    numLayers: 1,
    numExperts,
    hidden,
    intermediate,
    format: 'bf16' as const,
    rowFormat: 'bf16' as const,
  };
  const shard = new native.ExpertShard(runtime, options);
  const load = (e: number) => {
    const { gate, up, down } = expertWeights(new Random(e));
    return shard.load(0, e, gate, up, down);
  };
  const pending = Array.from({ length: numExperts }, (_, e) => load(e));
  await collectAll();
  await Promise.all(pending);
  assert.equal(shard.held(0).length, numExperts);
});

test('views of a step outlive it', async () => {
  const logits = await (async () => {
    const runtime = makeRuntime();
    const step = makeStep(runtime);
    step.setBatch(batchOf([{ tokens: [1] }]));
    await new native.LmHead(runtime, headSpec('f32'), headWeights(new Random(3))).forward(
      step,
      Int32Array.of(0),
      'decode',
    );
    return step.logits;
  })();
  const copy = logits.slice();
  await collectAll();
  assert.deepEqual(logits, copy);
});

test('memory of collected handles is given back', async () => {
  const runtime = makeRuntime();
  const make = () => {
    for (let i = 0; i < 10; i++) {
      makeStates(runtime);
      makeStep(runtime);
    }
  };
  make();
  assert.ok(runtime.memory().states > 0);
  for (let i = 0; i < 50 && runtime.memory().states + runtime.memory().buffers > 0; i++) await collectAll();
  assert.deepEqual(runtime.memory(), { weights: 0, kv: 0, states: 0, buffers: 0 });
});

test('two environments work at once, and one may end while its forward runs', async () => {
  const source = new URL('./lifetime-worker.ts', import.meta.url);
  const inWorker = async (): Promise<Float32Array> => {
    const worker = new Worker(source, { workerData: 'finish' });
    const [[logits], [code]] = (await Promise.all([once(worker, 'message'), once(worker, 'exit')])) as [
      [Float32Array],
      [number],
    ];
    assert.equal(code, 0);
    return logits;
  };
  const workers = [inWorker(), inWorker()];
  const model = await LittleModel.create(makeRuntime(), 'f32');
  const own = await model.forward([{ tokens: [3, 1, 4, 1, 5], slot: 0, pages: [0] }]);
  for (const logits of await Promise.all(workers)) assertSameBits(logits, own.logits);
  for (let i = 0; i < 5; i++) {
    const worker = new Worker(source, { workerData: 'hang' });
    await once(worker, 'message');
    await worker.terminate();
  }
  const again = await model.forward([{ tokens: [3, 1, 4, 1, 5], slot: 1, pages: [1] }]);
  assertSameBits(again.logits, own.logits);
});

test('a process ends by itself after its last forward, and in the middle of one when told to', () => {
  const child = new URL('./lifetime-child.ts', import.meta.url).pathname;
  for (const mode of ['idle', 'await', 'exit']) {
    const { status, signal, stdout, stderr } = spawnSync(process.execPath, [child, mode], { encoding: 'utf8' });
    assert.equal(signal, null, `${mode}: ${stderr}`);
    assert.equal(status, 0, `${mode}: ${stderr}`);
    assert.equal(stdout, mode === 'await' ? 'started\ndone\n' : 'started\n', mode);
  }
});

test('a mapping lives as long as its buffer', async () => {
  const path = join(scratch, 'data');
  const bytes = Buffer.from(Uint8Array.from({ length: 10_000 }, (_, i) => i % 251));
  writeFileSync(path, bytes);
  const fd = openSync(path, 'r');
  const mapped = native.mapFile(fd, bytes.length);
  assert.throws(() => native.mapFile(fd, bytes.length + 1), /^RangeError: length: /);
  closeSync(fd);
  rmSync(path);
  await collectAll();
  assert.ok(Buffer.from(mapped).equals(bytes));
});
