import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FAMILIES } from './lib/bits.ts';
import { assertClose, assertSameBits } from './lib/compare.ts';
import { LOGIT_TOLERANCE } from './lib/limits.ts';
import { ModelRunner } from './lib/model-runner.ts';
import { mtpFile, readJson } from './lib/paths.ts';
import { TensorFile } from './lib/tensor-file.ts';

const { model, accepted: cuts } = readJson<{ model: string; accepted: number[] }>(mtpFile('manifest.json'));
const file = new TensorFile(mtpFile('vectors.safetensors'));
const ids = file.ints('ids');

for (const { name: family, weights, bf16Kernels } of FAMILIES) {
  test(`${model}, ${family}: a rejected draft leaves no trace once the state is copied back`, async () => {
    const runner = await ModelRunner.open(model, { weights, bf16Kernels });
    for (const accepted of cuts) {
      const sequence = runner.begin(accepted + 8);
      const snapshot = runner.begin(1);
      await runner.prefill(sequence, ids.slice(0, accepted), Int32Array.of());
      runner.copyState(sequence, snapshot);
      const before = await runner.stateBytes(sequence);

      const draft = file.ints(`rollback${accepted}.draft`);
      const [drafted] = await runner.step([{ sequence, tokens: draft, mode: 1, want: [0, 1, 2] }]);
      assert.ok(!(await runner.stateBytes(sequence)).equals(before), 'the draft changed the state');
      runner.copyState(snapshot, sequence);
      assert.ok((await runner.stateBytes(sequence)).equals(before), 'S and convolution inputs are back, bit for bit');
      sequence.length = accepted;

      const next = { sequence, tokens: ids.slice(accepted, accepted + 1), mode: 1 as const, want: [0] };
      const [[after]] = (await runner.step([next], 'decode')) as [[Float32Array]];
      assertSameBits(after, await withoutDraft(runner, accepted), `after ${accepted} tokens`);
      runner.end(sequence);
      runner.end(snapshot);

      if (weights === 'f32') {
        const size = runner.model.vocabularySize;
        const { vocab } = runner.model.config;
        const wanted = file.floats(`rollback${accepted}.draft_logits`);
        assertClose(
          after.subarray(0, size),
          file.floats(`rollback${accepted}.logits`).subarray(0, size),
          LOGIT_TOLERANCE,
          'next token',
        );
        for (const [i, row] of (drafted as Float32Array[]).entries()) {
          assertClose(
            row.subarray(0, size),
            wanted.subarray(i * vocab, i * vocab + size),
            LOGIT_TOLERANCE,
            `draft ${i}`,
          );
        }
      }
    }
  });
}

async function withoutDraft(runner: ModelRunner, accepted: number): Promise<Float32Array> {
  const sequence = runner.begin(accepted + 1);
  await runner.prefill(sequence, ids.slice(0, accepted), Int32Array.of());
  const next = { sequence, tokens: ids.slice(accepted, accepted + 1), mode: 1 as const, want: [0] };
  const [[logits]] = (await runner.step([next], 'decode')) as [[Float32Array]];
  runner.end(sequence);
  return logits;
}
