import assert from 'node:assert/strict';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { ModelRunner, type LoadForTestOptions } from '../../testing/model-runner.ts';
import { randomCheckpoint, temporaryDirectory, type CheckpointVariant } from '../../testing/random-checkpoint.ts';
import { CACHE_DIR, cacheLocation } from './location.ts';
import { WeightsCache } from './weights-cache.ts';

const PROMPTS = [
  [1, 2, 3, 4, 5, 6, 7],
  [9, 8, 7],
];
const FORMATS = ['fp8', 'q8', 'q4'] as const;
/** Matrices of the experts of a random model. */
const EXPERT_MATRICES = 4 * 6 * 3;

async function run(
  dir: string,
  options: LoadForTestOptions,
): Promise<{ logits: Float32Array[]; counts: ModelRunner['reader']['counts'] }> {
  const runner = await ModelRunner.load(dir, options);
  return { logits: await runner.lastLogits(PROMPTS), counts: runner.reader.counts };
}

function segments(dir: string): string[] {
  return readdirSync(join(dir, CACHE_DIR), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.safetensors'))
    .map((name) => join(dir, CACHE_DIR, name));
}

const VARIANTS: [string, CheckpointVariant][] = [
  ['hybrid', {}],
  ['grouped projections, experts one by one', { family: 'qwen3_next', projections: 'grouped', experts: 'separate' }],
  ['full attention', { family: 'qwen3_moe', experts: 'separate' }],
  ['FP8 in blocks', { fp8: true }],
];

for (const [name, variant] of VARIANTS) {
  test(`${name}: the same bits without a cache, when it is made, and from the disk`, async () => {
    for (const weights of FORMATS) {
      using dir = randomCheckpoint(variant);
      const without = await run(dir.path, { weights });
      assert.ok(!existsSync(join(dir.path, CACHE_DIR)));
      const cold = await run(dir.path, { weights, weightsCache: 'auto' });
      const warm = await run(dir.path, { weights, weightsCache: 'auto' });
      assert.deepEqual(cold.logits, without.logits, `${weights}: made`);
      assert.deepEqual(warm.logits, without.logits, `${weights}: from the disk`);
      assert.deepEqual([cold.counts.hits, warm.counts.misses], [0, 0]);
      assert.deepEqual([warm.counts.hits, cold.counts.written], [cold.counts.misses, cold.counts.misses]);
      // An FP8 checkpoint is used as it is, but for the few matrices that are not FP8 in it.
      const asStored = variant.fp8 === true && weights === 'fp8';
      assert.equal(warm.counts.hits > EXPERT_MATRICES, !asStored, `${weights}: ${warm.counts.hits} from the disk`);
    }
  });
}

test('f32 and bf16 need no cache and make none', async () => {
  using dir = randomCheckpoint();
  for (const weights of ['f32', 'bf16'] as const) await run(dir.path, { weights, weightsCache: 'auto' });
  assert.ok(!existsSync(join(dir.path, CACHE_DIR)));
});

test('a flipped bit, a cut file and nonsense are found, thrown away with a warning, and made again', async () => {
  const flip = (path: string): void => {
    const bytes = readFileSync(path);
    bytes[bytes.length - 100] = (bytes.at(-100) ?? 0) ^ 4;
    writeFileSync(path, bytes);
  };
  const cut = (path: string): void => truncateSync(path, statSync(path).size - 10);
  const replace = (path: string): void => writeFileSync(path, 'nonsense');
  for (const damage of [flip, cut, replace]) {
    using dir = randomCheckpoint();
    const first = await run(dir.path, { weights: 'q8', weightsCache: 'auto' });
    const [path = ''] = segments(dir.path);
    damage(path);
    const warnings: string[] = [];
    const onWarning = (message: string): number => warnings.push(message);
    const second = await run(dir.path, { weights: 'q8', weightsCache: 'auto', onWarning });
    assert.deepEqual(second.logits, first.logits);
    assert.ok(second.counts.written > 0);
    assert.ok(warnings.length === 1 && warnings[0]?.includes(path), warnings.join('\n'));
    assert.match(warnings[0] ?? '', /discarded, its weights are made again/);
    const third = await run(dir.path, { weights: 'q8', weightsCache: 'auto' });
    assert.deepEqual([third.counts.misses, third.logits], [0, first.logits]);
  }
});

test('the cache of a checkpoint that changed is thrown away', async () => {
  using dir = randomCheckpoint({ seed: 1 });
  await run(dir.path, { weights: 'q4', weightsCache: 'auto' });
  const [before] = readdirSync(join(dir.path, CACHE_DIR));
  using other = randomCheckpoint({ seed: 2 });
  writeFileSync(join(dir.path, 'model.safetensors'), readFileSync(join(other.path, 'model.safetensors')));
  const warnings: string[] = [];
  const onWarning = (message: string): number => warnings.push(message);
  const changed = await run(dir.path, { weights: 'q4', weightsCache: 'auto', onWarning });
  assert.deepEqual(changed.logits, (await run(other.path, { weights: 'q4' })).logits);
  assert.match(warnings.join(), /of another checkpoint/);
  const after = readdirSync(join(dir.path, CACHE_DIR));
  assert.ok(after.length === 1 && after[0] !== before);
});

test('processes that load different experts at the same time share one cache', async () => {
  using dir = randomCheckpoint();
  const loads = await Promise.all([1, 2, 3].map(() => run(dir.path, { weights: 'q8', weightsCache: 'auto' })));
  for (const { logits } of loads) assert.deepEqual(logits, loads[0]?.logits);
  const after = await run(dir.path, { weights: 'q8', weightsCache: 'auto' });
  assert.deepEqual([after.counts.misses, after.logits], [0, loads[0]?.logits]);
});

test('what is gathered is written in segments, and found by a reader that was there before', async () => {
  using dir = temporaryDirectory();
  const origin = { fingerprint: 'f'.repeat(32), format: 'q8', version: 1 };
  const warnings: string[] = [];
  const open = (): WeightsCache =>
    WeightsCache.open({
      location: { root: dir.path, own: true },
      origin,
      mapFile: null,
      onWarning: (message) => warnings.push(message),
      segmentBytes: 100,
    }) as WeightsCache;
  const [writer, reader] = [open(), open()];
  assert.equal(reader.get('a'), null);
  const weight = (seed: number) => ({
    dtype: 'Q8' as const,
    shape: [4, 10] as [number, number],
    data: Uint8Array.from({ length: 40 }, (_, i) => (i * seed) & 255),
    scale: { dtype: 'F16' as const, shape: [4, 1] as [number, number], data: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, seed) },
    rows: null,
  });
  for (const [i, name] of ['a', 'b', 'c', 'd', 'e'].entries()) await writer.put(name, weight(i + 1));
  assert.equal(readdirSync(writer.dir).length, 1, 'three weights are more than 100 bytes');
  await writer.flush();
  assert.equal(readdirSync(writer.dir).length, 2);
  for (const [i, name] of ['a', 'b', 'c', 'd', 'e'].entries()) {
    const found = reader.get(name);
    assert.deepEqual(
      found && {
        ...found,
        data: [...found.data],
        scale: found.scale && { ...found.scale, data: [...found.scale.data] },
      },
      {
        ...weight(i + 1),
        data: [...weight(i + 1).data],
        scale: { ...weight(i + 1).scale, data: [...weight(i + 1).scale.data] },
      },
    );
  }
  const draft = join(writer.dir, '.draft-left');
  writeFileSync(draft, 'x');
  utimesSync(draft, 1, 1);
  mkdirSync(join(dir.path, 'q8-v0-' + 'f'.repeat(32)));
  mkdirSync(join(dir.path, 'q4-v0-' + 'f'.repeat(32)));
  open();
  assert.ok(!existsSync(draft), 'a draft of a process that died is removed');
  assert.deepEqual(readdirSync(dir.path).sort(), ['q4-v0-' + 'f'.repeat(32), 'q8-v1-' + 'f'.repeat(32)]);
  assert.match(warnings.join(), /older version: discarded/);
});

test('where the cache goes: beside the model, at home where that is read-only, where one says, or nowhere', () => {
  using dir = temporaryDirectory();
  const model = join(dir.path, 'model');
  mkdirSync(model);
  const env = { GUILDHALL_HOME: join(dir.path, 'home') };
  assert.equal(cacheLocation('off', model, env), null);
  assert.deepEqual(cacheLocation('auto', model, env), { root: join(model, CACHE_DIR), own: true });
  const chosen = join(dir.path, 'chosen');
  assert.deepEqual(cacheLocation(chosen, model, env), { root: chosen, own: false });
  // Nobody can make a folder below a file, root neither.
  const file = join(dir.path, 'file');
  writeFileSync(file, '');
  chmodSync(file, 0o444);
  assert.deepEqual(cacheLocation('auto', file, env), {
    root: join(env.GUILDHALL_HOME, 'cache', 'weights'),
    own: false,
  });
  assert.equal(cacheLocation(join(file, 'x'), model, env), null);
});
