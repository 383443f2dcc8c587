import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { fail, isGuildhallError } from '@guildhall/common';
import type { ExpertDispatch } from '../moe/expert-dispatch.ts';
import { ModelRunner } from '../testing/model-runner.ts';
import { randomCheckpoint, randomNumbers, type CheckpointVariant } from '../testing/random-checkpoint.ts';
import { dequantise, groupProjections, separateExperts } from '../testing/rearrange.ts';
import type { ReadRecord } from '../weights/checkpoint.ts';

const random = randomNumbers(11);
const prompt = (length: number): number[] => Array.from({ length }, () => Math.floor(random() * 96));
const PROMPTS = [prompt(5), prompt(70), prompt(1), prompt(128)];

async function logitsOf(variant: CheckpointVariant, options: Parameters<typeof ModelRunner.load>[1] = {}): Promise<Float32Array[]> {
  using dir = randomCheckpoint(variant);
  const runner = await ModelRunner.load(dir.path, options);
  return runner.lastLogits(PROMPTS);
}

for (const weights of ['f32', 'bf16'] as const) {
  for (const family of ['qwen3_5_moe', 'qwen3_next', 'qwen3_moe'] as const) {
    test(`${family} with ${weights} weights gives finite logits that depend on every token`, async () => {
      using dir = randomCheckpoint({ family });
      const runner = await ModelRunner.load(dir.path, { weights });
      const ids = prompt(6);
      const [logits] = (await runner.lastLogits([ids])) as [Float32Array];
      assert.equal(logits.length, 96);
      assert.ok(logits.every(Number.isFinite));
      for (const position of ids.keys()) {
        const changed = ids.with(position, ((ids[position] as number) + 1) % 96);
        assert.notDeepEqual((await runner.lastLogits([changed]))[0], logits, `token ${position}`);
      }
    });
  }
}

const SIZES = { keyHeads: 2, valueHeads: 4, keyDim: 8, valueDim: 12 };

test('the storage of the same weights changes no bit', async () => {
  const expected = await logitsOf({});
  assert.deepEqual(await logitsOf({ edit: separateExperts }), expected, 'experts one by one');
  assert.deepEqual(await logitsOf({ edit: (tensors) => groupProjections(tensors, SIZES) }), expected, 'grouped projections');
  assert.deepEqual(await logitsOf({ numShards: 3 }), expected, 'shards');
  assert.deepEqual(await logitsOf({ flat: true }), expected, 'text only');
  assert.deepEqual(await logitsOf({ mtp: 'fused', vision: true }), expected, 'tensors that are set aside');
  const tied = (variant: CheckpointVariant): CheckpointVariant => ({ ...variant, top: { tie_word_embeddings: true } });
  assert.notDeepEqual(await logitsOf(tied({})), expected, 'another head');
});

test('FP8 weights equal their dequantised copies, whole blocks and ragged ones, fused and grouped', async () => {
  const shapes = [{}, { hidden_size: 144, moe_intermediate_size: 72, num_hidden_layers: 2 }, { moe_intermediate_size: 200, num_hidden_layers: 2 }];
  for (const text of shapes) {
    const base = { text, fp8: true };
    const expected = await logitsOf({ ...base, edit: dequantise });
    assert.deepEqual(await logitsOf(base), expected, `fused ${JSON.stringify(text)}`);
  }
  for (const family of ['qwen3_next', 'qwen3_moe'] as const) {
    const base = { family, fp8: true, text: { hidden_size: 160, linear_key_head_dim: 40, linear_value_head_dim: 24, num_hidden_layers: 2 } };
    assert.deepEqual(await logitsOf(base), await logitsOf({ ...base, edit: dequantise }), family);
  }
});

for (const weights of ['f32', 'bf16'] as const) {
  test(`the same bits alone, together, in pieces and by many small messages: ${weights}`, async () => {
    using dir = randomCheckpoint();
    const runner = await ModelRunner.load(dir.path, { weights });
    const together = await runner.lastLogits(PROMPTS);
    for (const [i, ids] of PROMPTS.entries()) {
      assert.deepEqual((await runner.lastLogits([ids]))[0], together[i], `alone: ${ids.length} tokens`);
    }
    assert.deepEqual(await runner.lastLogits(PROMPTS, [64]), together, 'in pieces of 64 tokens');
    const threads = await ModelRunner.load(dir.path, { weights, threads: 2 });
    assert.deepEqual(await threads.lastLogits(PROMPTS), together, 'two threads');
    const messages = await ModelRunner.load(dir.path, { weights, messages: true });
    assert.deepEqual(await messages.lastLogits(PROMPTS), together, 'by messages');
    const small = await ModelRunner.load(dir.path, { weights, messages: true, maxMessageBytes: 700 });
    assert.deepEqual(await small.lastLogits(PROMPTS), together, 'by small messages');
  });
}

test('generated tokens go through the recurrent rule and agree with the prompt rule', async () => {
  using dir = randomCheckpoint();
  const runner = await ModelRunner.load(dir.path);
  const ids = prompt(80);
  const decoded = await runner.decodeLogits(ids, 66);
  for (const [i, logits] of decoded.entries()) {
    const [whole] = (await runner.lastLogits([ids.slice(0, 66 + i)])) as [Float32Array];
    for (const [id, value] of logits.entries()) assert.ok(Math.abs(value - (whole[id] as number)) < 1e-3, `step ${i}, id ${id}`);
  }
});

test('weighted sums from the experts agree with single rows', async () => {
  const exact = await logitsOf({}, { mode: 'exact' });
  const partial = await logitsOf({}, { mode: 'partial' });
  for (const [i, logits] of partial.entries()) {
    for (const [id, value] of logits.entries()) assert.ok(Math.abs(value - (exact[i]?.[id] as number)) < 1e-3);
  }
});

test('the dense part reads dense tensors only, the experts only theirs', async () => {
  for (const variant of [{}, { family: 'qwen3_next' as const }, { fp8: true }]) {
    using dir = randomCheckpoint(variant);
    const reads: ReadRecord[] = [];
    await ModelRunner.load(dir.path, { onRead: (read) => reads.push(read) });
    const firstExpert = reads.findIndex(({ tensor }) => tensor.includes('.mlp.experts.'));
    const dense = new Set(reads.slice(0, firstExpert).map(({ tensor }) => tensor));
    const experts = new Set(reads.slice(firstExpert).map(({ tensor }) => tensor));
    assert.ok([...experts].every((tensor) => tensor.includes('.mlp.experts.')));
    assert.ok(dense.size > 30 && experts.size > 0);
  }
});

test('padding rows of the vocabulary can never be sampled', async () => {
  const runner = await ModelRunner.load(join(import.meta.dirname, '../../../../models/tiny'), { weights: 'bf16' });
  const { vocabularySize, config } = runner.model;
  assert.ok(vocabularySize < config.vocab);
  const [logits] = (await runner.lastLogits([[1, 2, 3]])) as [Float32Array];
  assert.ok(logits.subarray(0, vocabularySize).every(Number.isFinite));
  assert.ok(logits.subarray(vocabularySize).every((value) => value === -Infinity));
});

test('work can go between layers, and a cancelled step ends before its next layer', async () => {
  using dir = randomCheckpoint();
  const runner = await ModelRunner.load(dir.path);
  const sequence = { ids: [1, 2, 3], done: 0 };
  const layers: number[] = [];
  const control = new AbortController();
  const yieldPoint = (layer: number): Promise<void> | null => {
    layers.push(layer);
    return layer % 2 === 0 ? Promise.resolve() : null;
  };
  await runner.step([sequence], [3], 0, { yieldPoint });
  assert.deepEqual(layers, [0, 1, 2, 3]);
  const abort = (layer: number): null => {
    if (layer === 1) control.abort();
    return null;
  };
  await assert.rejects(runner.step([sequence], [3], 0, { signal: control.signal, yieldPoint: abort }), (err) => {
    return isGuildhallError(err) && err.code === 'cancelled' && err.message.includes('layer 2');
  });
});

test('a dispatch that fails fails the step when nothing uses its rows any more, and the buffers serve the next one', async () => {
  using dir = randomCheckpoint();
  const runner = await ModelRunner.load(dir.path);
  const expected = await runner.lastLogits(PROMPTS);
  const broken: ExpertDispatch = {
    dispatch: () => ({ done: Promise.reject(fail('expert_unavailable', 'nobody holds expert 1')) }),
  };
  await assert.rejects(runner.step([{ ids: [1, 2], done: 0 }], [2], 0, { dispatch: broken }), /nobody holds expert 1/);
  assert.deepEqual(await runner.lastLogits(PROMPTS), expected);
});
