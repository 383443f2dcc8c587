import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { loadNative } from '@guildhall/native';
import { LocalExperts } from '../moe/local-experts.ts';
import { TextModel } from '../models/text-model.ts';
import { kvFormatOf, WEIGHT_FORMATS } from '../numerics.ts';
import { type CheckpointVariant, randomCheckpoint } from '../testing/random-checkpoint.ts';
import { Checkpoint } from './checkpoint.ts';
import { footprintOf, parametersOf, stepBufferBytes } from './footprint.ts';

const TINY = join(import.meta.dirname, '../../../../models/tiny');

function makeRuntime() {
  const native = loadNative();
  return new native.Runtime({ threads: 1, isa: 'auto', bf16Kernels: 'auto' });
}

/** Loads a checkpoint and compares every account of the native library with what was computed. */
async function compare(dir: string, weights: (typeof WEIGHT_FORMATS)[number]): Promise<void> {
  const runtime = makeRuntime();
  const checkpoint = Checkpoint.open(dir);
  const { config } = checkpoint;
  const print = footprintOf(config, weights, kvFormatOf(weights, 'auto'));
  const model = await TextModel.load({ runtime, checkpoint, config, weights });
  assert.equal(runtime.memory().weights, print.denseBytes, `dense weights in ${weights}`);
  await LocalExperts.load({ runtime, checkpoint, config, weights });
  assert.equal(runtime.memory().weights, print.denseBytes + print.allExpertBytes, `all weights in ${weights}`);
  const kv = model.createKvPool(3);
  assert.equal(kv.pageBytes, print.pageBytes);
  assert.equal(runtime.memory().kv, 3 * print.pageBytes);
  const states = model.createStatePool(5);
  assert.equal(states?.slotBytes ?? 0, print.stateBytes);
  const before = runtime.memory().buffers;
  const limits = { maxTokens: 48, maxLogitRows: 7 };
  const step = model.createStepBuffers(limits);
  const rotations = 48 * config.attention.rope.rotaryDim * 4;
  assert.equal(runtime.memory().buffers - before + rotations, stepBufferBytes(config, weights, limits));
  assert.equal(step.maxTokens, 48);
}

for (const weights of WEIGHT_FORMATS) {
  test(`the model that ships takes in ${weights} what its footprint says`, () => compare(TINY, weights));
}

// Sizes that are no multiples of panels or blocks, every family, tied embeddings.
const VARIANTS: CheckpointVariant[] = [
  { family: 'qwen3_next' },
  { family: 'qwen3_moe' },
  { text: { hidden_size: 72, moe_intermediate_size: 21, num_experts: 5 } },
  { top: { tie_word_embeddings: true } },
];

for (const [index, variant] of VARIANTS.entries()) {
  test(`checkpoints of other shapes take what their footprint says (${index})`, async () => {
    using dir = randomCheckpoint(variant);
    for (const weights of WEIGHT_FORMATS) await compare(dir.path, weights);
  });
}

test('FP8 pages carry a factor for each token and head', () => {
  const { config } = Checkpoint.open(TINY);
  const runtime = makeRuntime();
  const { numKvHeads, headDim } = config.attention;
  const kv = new (loadNative().KvPool)(runtime, { numPages: 1, numLayers: 2, numKvHeads, headDim, format: 'fp8' });
  assert.equal(footprintOf(config, 'bf16', 'fp8').pageBytes, kv.pageBytes);
});

test('parameters are those of the tensors in the files', () => {
  const checkpoint = Checkpoint.open(TINY);
  const { total, routed } = parametersOf(checkpoint.config);
  const sizeOf = (pattern: RegExp): number =>
    checkpoint.names
      .filter((name) => pattern.test(name))
      .reduce((sum, name) => sum + checkpoint.info(name).shape.reduce((a, b) => a * b, 1), 0);
  assert.equal(routed, sizeOf(/language_model\..*\.mlp\.experts\./));
  assert.equal(total, sizeOf(/language_model\.|^lm_head/));
});
