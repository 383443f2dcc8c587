import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loadNative } from '@guildhall/native';
import { ModelRunner, stepContext } from '../testing/model-runner.ts';
import { randomCheckpoint } from '../testing/random-checkpoint.ts';
import { Checkpoint } from '../weights/checkpoint.ts';
import { expertBytes } from '../weights/experts.ts';
import { LocalExperts } from './local-experts.ts';

test('every expert of the checkpoint is held, with progress on the way', async () => {
  using dir = randomCheckpoint({ text: { num_hidden_layers: 2 } });
  const native = loadNative();
  const runtime = new native.Runtime({ threads: 1, isa: 'auto', bf16Kernels: 'auto' });
  const checkpoint = Checkpoint.open(dir.path);
  const { config } = checkpoint;
  const progress: number[] = [];
  const onProgress = (done: number, total: number): void => void progress.push(done / total);
  const experts = await LocalExperts.load({ runtime, checkpoint, config, weights: 'bf16', onProgress });
  for (let layer = 0; layer < 2; layer++) {
    assert.deepEqual([...experts.shard.held(layer)], [0, 1, 2, 3, 4, 5]);
  }
  assert.deepEqual(progress, [0.5, 1]);
});

test('an expert takes the memory that the placement counts with', () => {
  const native = loadNative();
  const runtime = new native.Runtime({ threads: 1, isa: 'auto', bf16Kernels: 'auto' });
  for (const text of [
    {},
    { hidden_size: 72, moe_intermediate_size: 21 },
    { hidden_size: 33, moe_intermediate_size: 16 },
  ]) {
    using dir = randomCheckpoint({ text });
    const { config } = Checkpoint.open(dir.path);
    for (const format of ['f32', 'bf16'] as const) {
      const { hidden, moe, numLayers } = config;
      const { numExperts, intermediate } = moe;
      const shard = new native.ExpertShard(runtime, {
        numLayers,
        numExperts,
        hidden,
        intermediate,
        format,
        rowFormat: format,
      });
      assert.equal(expertBytes(config, format), shard.expertBytes, `${format} ${JSON.stringify(text)}`);
    }
  }
});

test('an expert that is missing fails the step instead of being guessed', async () => {
  using dir = randomCheckpoint();
  const runner = await ModelRunner.load(dir.path);
  const messages = await ModelRunner.load(dir.path, { messages: true });
  for (let expert = 0; expert < 6; expert++) {
    runner.experts.shard.unload(2, expert);
    messages.experts.shard.unload(2, expert);
  }
  const sequence = { ids: [1, 2, 3], done: 0 };
  await assert.rejects(runner.step([sequence], [3], 0), { message: /expert \d of layer 2 is not held/ });
  await assert.rejects(messages.step([sequence], [3], 0), { message: /local experts answered status 2/ });
});

test('everything that is read from the step is read before dispatch returns', async () => {
  using dir = randomCheckpoint();
  const runner = await ModelRunner.load(dir.path);
  const expected = await runner.lastLogits([[1, 2, 3, 4]]);
  const spoil = {
    dispatch: (...args: Parameters<LocalExperts['dispatch']>) => {
      const [layer, step, numTokens] = args;
      const handle = runner.experts.dispatch(layer, step, numTokens, stepContext(0));
      const ids = step.topkIds.slice(0, numTokens * 3);
      step.topkIds.fill(-1, 0, numTokens * 3);
      return { done: handle.done.then(() => step.topkIds.set(ids)) };
    },
  };
  assert.deepEqual(await runner.lastLogits([[1, 2, 3, 4]], [], spoil), expected);
});
