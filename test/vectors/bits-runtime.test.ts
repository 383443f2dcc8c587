import assert from 'node:assert/strict';
import { test } from 'node:test';
import { loadNative } from '@guildhall/native';
import type { IsaPath } from '@guildhall/native';
import { assertSameResult, FAMILIES, runAlone } from './lib/bits.ts';
import { assertSameBits } from './lib/compare.ts';
import { ModelRunner } from './lib/model-runner.ts';
import { MODELS } from './lib/paths.ts';
import { randomIds } from './lib/random.ts';

// Past one chunk and page; the scalar path is slow, so not further than that.
const PROMPT = 90;
const POSITIONS = Int32Array.from([0, 1, 15, 62, 63, 64, 65, 66, 89]);

/** Instruction sets that this machine has, widest last. */
function availableIsas(): IsaPath[] {
  const native = loadNative();
  return (['scalar', 'avx2', 'avx512'] as const).filter((isa) => {
    try {
      return new native.Runtime({ threads: 1, isa, bf16Kernels: 'bf16-fma' }).info.isa === isa;
    } catch {
      return false;
    }
  });
}

/** A prompt and three decoded tokens. */
async function sample(name: string, options: Parameters<typeof ModelRunner.open>[1]) {
  const runner = await ModelRunner.open(name, options);
  const vocab = runner.model.vocabularySize;
  const result = await runAlone(runner, randomIds(21, PROMPT, vocab), POSITIONS);
  const sequence = runner.begin(PROMPT + 3);
  await runner.prefill(sequence, randomIds(22, 70, vocab), Int32Array.of());
  const decoded: Float32Array[] = [];
  for (const token of [1, 2, 3]) {
    const [rows] = await runner.step([{ sequence, tokens: [token], mode: 1, want: [0] }], 'decode');
    decoded.push(...(rows as Float32Array[]));
  }
  return { result, decoded, family: runner.runtime.kernelFamily(options.weights) };
}

for (const name of MODELS) {
  for (const { name: family, weights, bf16Kernels } of FAMILIES) {
    test(`${name}, ${family}: one thread, two and five give the same bits`, async () => {
      const one = await sample(name, { weights, bf16Kernels, threads: 1 });
      for (const threads of [2, 5]) {
        const many = await sample(name, { weights, bf16Kernels, threads });
        assertSameResult(many.result, one.result, `${threads} threads`);
        for (const [i, row] of one.decoded.entries()) {
          assertSameBits(many.decoded[i] as Float32Array, row, `${threads} threads, decoded ${i}`);
        }
      }
    });
  }

  for (const weights of ['f32', 'bf16'] as const) {
    test(`${name}, ${weights}-fma: every instruction set gives the same bits`, async (t) => {
      const isas = availableIsas();
      t.diagnostic(`instruction sets: ${isas.join(', ')}`);
      const scalar = await sample(name, { weights, bf16Kernels: 'bf16-fma', isa: 'scalar' });
      assert.equal(scalar.family, `${weights}-fma`);
      for (const isa of isas.slice(1)) {
        const wide = await sample(name, { weights, bf16Kernels: 'bf16-fma', isa });
        assert.equal(wide.family, scalar.family);
        assertSameResult(wide.result, scalar.result, isa);
        for (const [i, row] of scalar.decoded.entries()) {
          assertSameBits(wide.decoded[i] as Float32Array, row, `${isa}, decoded ${i}`);
        }
      }
    });
  }
}
