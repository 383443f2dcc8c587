import { test } from 'node:test';
import { assertSameResult, FAMILIES, runAlone } from './lib/bits.ts';
import { assertClose } from './lib/compare.ts';
import { ModelRunner } from './lib/model-runner.ts';
import { MODELS } from './lib/paths.ts';
import { randomIds } from './lib/random.ts';
import { ShardedExperts, type ShardedOptions } from './lib/sharded-experts.ts';

const POSITIONS = Int32Array.from([0, 1, 62, 63, 64, 90, 129]);

type Placement = Pick<ShardedOptions, 'shards' | 'seed' | 'replicas' | 'maxMessageBytes'>;

const PLACEMENTS: readonly Placement[] = [
  { shards: 1, seed: 1, replicas: 0, maxMessageBytes: 1 << 22 },
  { shards: 2, seed: 2, replicas: 0, maxMessageBytes: 256 * 1024 },
  { shards: 4, seed: 3, replicas: 0, maxMessageBytes: 16 * 1024 },
  { shards: 4, seed: 4, replicas: 0.5, maxMessageBytes: 4 * 1024 },
];

for (const name of MODELS) {
  for (const { name: family, weights, bf16Kernels } of FAMILIES) {
    test(`${name}, ${family}: one, two and four holders under any placement give the same bits`, async () => {
      const local = await ModelRunner.open(name, { weights, bf16Kernels });
      const ids = randomIds(31, 130, local.model.vocabularySize);
      const expected = await runAlone(local, ids, POSITIONS);
      for (const placement of PLACEMENTS) {
        const runner = await ModelRunner.open(name, {
          weights,
          bf16Kernels,
          experts: async (parts) => ShardedExperts.load({ ...parts, ...placement, mode: 'exact' }),
        });
        const { shards, replicas, seed } = placement;
        const what = `${shards} shards, ${replicas} replicated, placement ${seed}`;
        assertSameResult(await runAlone(runner, ids, POSITIONS), expected, what);
      }
    });
  }

  test(`${name}: partial sums of four holders stay within tolerance of the exact combine`, async () => {
    const local = await ModelRunner.open(name, { weights: 'f32' });
    const ids = randomIds(32, 40, local.model.vocabularySize);
    const positions = Int32Array.from([0, 20, 39]);
    const expected = await runAlone(local, ids, positions);
    const runner = await ModelRunner.open(name, {
      weights: 'f32',
      experts: async (parts) =>
        ShardedExperts.load({ ...parts, shards: 4, seed: 5, replicas: 0, maxMessageBytes: 1 << 20, mode: 'partial' }),
    });
    const { logits } = await runAlone(runner, ids, positions);
    const size = local.model.vocabularySize;
    for (const [i, row] of expected.logits.entries()) {
      assertClose(
        (logits[i] as Float32Array).subarray(0, size),
        row.subarray(0, size),
        1e-4,
        `position ${positions[i]}`,
      );
    }
  });
}
