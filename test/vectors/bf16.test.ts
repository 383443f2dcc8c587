import assert from 'node:assert/strict';
import { test } from 'node:test';
import { klDivergence } from './lib/compare.ts';
import { KL_FACTOR, KL_FLOOR } from './lib/limits.ts';
import { ModelRunner } from './lib/model-runner.ts';
import { ModelVectors } from './lib/model-vectors.ts';
import { MODELS } from './lib/paths.ts';

/** Logits at every position of a prompt. */
async function allLogits(runner: ModelRunner, ids: Int32Array): Promise<Float32Array[]> {
  const sequence = runner.begin(ids.length);
  const rows = await runner.prefill(sequence, ids, Int32Array.from(ids.keys()));
  runner.end(sequence);
  return rows;
}

for (const name of MODELS) {
  test(`${name}: BF16 diverges from float32 no more than the reference's own BF16`, async (t) => {
    const vectors = new ModelVectors(name);
    if (vectors.skipIfStale(t)) return;
    const { reference_bf16_mean_kl: own, tokenizer_size: size } = vectors.manifest;
    // Our float32 stands for the reference's: logits.test.ts holds it to 1e-4. Few positions with another expert make
    // most of a mean, so it is taken over all of them, not only over those whose reference logits are stored.
    const float32 = await ModelRunner.open(name, { weights: 'f32' });
    const runners = await Promise.all(
      (['auto', 'bf16-fma'] as const).map(async (bf16Kernels) =>
        ModelRunner.open(name, { weights: 'bf16', bf16Kernels }),
      ),
    );
    const sums = runners.map(() => 0);
    let count = 0;
    for (const { ids } of vectors.prompts()) {
      const expected = await allLogits(float32, ids);
      count += ids.length;
      for (const [i, runner] of runners.entries()) {
        for (const [position, row] of (await allLogits(runner, ids)).entries()) {
          sums[i] = (sums[i] as number) + klDivergence(expected[position] as Float32Array, row, size);
        }
      }
    }
    assert.equal(count, vectors.manifest.reference_bf16_kl_positions);
    const limit = Math.max(KL_FLOOR, KL_FACTOR * own);
    for (const [i, runner] of runners.entries()) {
      const kl = (sums[i] as number) / count;
      const family = runner.runtime.kernelFamily('bf16');
      t.diagnostic(`${family}: mean KL ${kl.toExponential(2)}, the reference's own ${own.toExponential(2)}`);
      assert.ok(kl <= limit, `${family}: mean KL ${kl.toExponential(2)}, allowed ${limit.toExponential(2)}`);
    }
  });
}
