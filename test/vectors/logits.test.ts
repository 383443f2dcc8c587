import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { assertClose, maxAbsDiff } from './lib/compare.ts';
import { LOGIT_TOLERANCE } from './lib/limits.ts';
import { ModelRunner } from './lib/model-runner.ts';
import { ModelVectors } from './lib/model-vectors.ts';
import { MODELS } from './lib/paths.ts';

/** Prompts that differ from the reference after a near-tie of its gates. */
const apart: string[] = [];
let numPrompts = 0;

for (const name of MODELS) {
  const vectors = new ModelVectors(name);

  test(`${name}: the vectors belong to the checkpoint`, () => {
    assert.ok(vectors.matchesCheckpoint(), `regenerate test/vectors for ${name}: see test/vectors/README.md`);
  });

  test(`${name}: float32 logits of every prompt length equal the reference`, async (t) => {
    if (vectors.skipIfStale(t)) return;
    const runner = await ModelRunner.open(name, { weights: 'f32' });
    const size = vectors.manifest.tokenizer_size;
    let worst = 0;
    for (const { name: prompt, ids, positions, logits, firstNearTie } of vectors.prompts()) {
      numPrompts++;
      const sequence = runner.begin(ids.length);
      const rows = await runner.prefill(sequence, ids, positions);
      runner.end(sequence);
      assert.equal(rows.length, positions.length);
      for (const [i, position] of positions.entries()) {
        const [actual, expected] = [rows[i] as Float32Array, logits[i] as Float32Array];
        assert.ok(
          actual.subarray(size).every((x) => x === -Infinity),
          'ids past the tokenizer are masked',
        );
        const diff = maxAbsDiff(actual.subarray(0, size), expected.subarray(0, size));
        if (position >= firstNearTie && diff > LOGIT_TOLERANCE) {
          apart.push(`${name} ${prompt} from position ${position}: ${diff.toExponential(1)}`);
          break;
        }
        worst = Math.max(worst, diff);
        assertClose(
          actual.subarray(0, size),
          expected.subarray(0, size),
          LOGIT_TOLERANCE,
          `${prompt}, position ${position}`,
        );
      }
    }
    t.diagnostic(`largest difference ${worst.toExponential(2)}`);
  });

  test(`${name}: prompts of several lengths in one packed step equal the reference's padded batch`, async (t) => {
    if (vectors.skipIfStale(t)) return;
    const runner = await ModelRunner.open(name, { weights: 'f32' });
    const size = vectors.manifest.tokenizer_size;
    const prompts = vectors.batch();
    const parts = prompts.map(({ ids }) => {
      return {
        sequence: runner.begin(ids.length),
        tokens: ids,
        mode: 0 as const,
        want: [ids.length - 2, ids.length - 1],
      };
    });
    const rows = await runner.step(parts);
    for (const [i, { ids, logits }] of prompts.entries()) {
      for (const [j, expected] of logits.entries()) {
        const actual = rows[i]?.[j] as Float32Array;
        const what = `prompt of ${ids.length}, ${j === 0 ? 'second last' : 'last'} position`;
        assertClose(actual.subarray(0, size), expected.subarray(0, size), LOGIT_TOLERANCE, what);
      }
    }
  });
}

after(() => {
  assert.ok(apart.length <= numPrompts / 1000, `prompts apart after a near-tie:\n${apart.join('\n')}`);
});
