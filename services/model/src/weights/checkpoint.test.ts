import assert from 'node:assert/strict';
import { cpSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { isGuildhallError } from '@guildhall/common';
import { assertFails } from '../testing/errors.ts';
import { randomCheckpoint, temporaryDirectory, type CheckpointVariant } from '../testing/random-checkpoint.ts';
import type { RawTensor } from '../testing/safetensors-writer.ts';
import { Checkpoint, type ReadRecord } from './checkpoint.ts';
import { expertSources } from './experts.ts';

const VARIANTS: [title: string, variant: CheckpointVariant][] = [
  ['qwen3_5_moe', {}],
  ['qwen3_5_moe, text only, in three shards', { flat: true, numShards: 3 }],
  ['qwen3_5_moe, experts one by one', { experts: 'separate' }],
  ['qwen3_5_moe, wrapped prefix', { prefix: 'language_model.model.' }],
  ['qwen3_5_moe, FP8, fused', { fp8: true, numShards: 2 }],
  ['qwen3_5_moe, FP8, one by one', { fp8: true, experts: 'separate' }],
  ['qwen3_5_moe, tied', { top: { tie_word_embeddings: true } }],
  ['qwen3_next', { family: 'qwen3_next' }],
  ['qwen3_next, FP8', { family: 'qwen3_next', fp8: true }],
  ['qwen3_moe', { family: 'qwen3_moe' }],
];

for (const [title, variant] of VARIANTS) {
  test(`opens and sorts every tensor: ${title}`, () => {
    using dir = randomCheckpoint(variant);
    const ckpt = Checkpoint.open(dir.path);
    assert.deepEqual([...ckpt.denseNames, ...ckpt.expertNames].sort(), ckpt.names);
    assert.ok(ckpt.expertNames.every((name) => name.includes('.mlp.experts.')));
    assert.ok(!ckpt.denseNames.some((name) => name.includes('.mlp.experts.')));
    assert.deepEqual(ckpt.notices, []);
    assert.match(ckpt.fingerprint, /^[0-9a-f]{32}$/);
  });
}

test('vision, both layouts of multi-token prediction and unknown tensors are set aside with notices', () => {
  for (const [mtp, words, count] of [
    ['fused', 'fused experts', 8],
    ['separate', 'one tensor per expert', 24],
  ] as const) {
    using dir = randomCheckpoint({
      mtp,
      vision: true,
      edit: (tensors) => [...tensors, { name: 'odd', dtype: 'I64', shape: [], data: new Uint8Array(8) }],
    });
    const ckpt = Checkpoint.open(dir.path);
    const text = ckpt.notices.join('\n');
    assert.ok(text.includes(`${count} multi-token-prediction tensors (${words})`), text);
    assert.ok(text.includes('1 vision tensors'), text);
    assert.ok(text.includes('1 unknown tensors are ignored: odd'), text);
    assert.ok(![...ckpt.denseNames, ...ckpt.expertNames].some((name) => /^mtp|visual|odd/.test(name)));
  }
});

test('a tied head uses the embedding, also where the file does not say and no head is stored', () => {
  const without = (tensors: RawTensor[]): RawTensor[] => tensors.filter(({ name }) => name !== 'lm_head.weight');
  using unsaid = randomCheckpoint({ flat: true, edit: without });
  assert.equal(Checkpoint.open(unsaid.path).layout.head, 'model.embed_tokens.weight');
  using untied = randomCheckpoint({ edit: without });
  assertFails(() => Checkpoint.open(untied.path), 'checkpoint_invalid', 'lm_head.weight', 'missing', '[96, 32]');
});

const L = 'model.language_model.layers.';
const rename =
  (from: string, to: string) =>
  (tensors: RawTensor[]): RawTensor[] =>
    tensors.map((tensor) => (tensor.name === from ? { ...tensor, name: to } : tensor));
const reshape =
  (target: string, shape: number[], dtype?: string) =>
  (tensors: RawTensor[]): RawTensor[] =>
    tensors.map((tensor) => (tensor.name === target ? { ...tensor, shape, dtype: dtype ?? tensor.dtype } : tensor));

const REFUSED: [title: string, variant: CheckpointVariant, ...parts: string[]][] = [
  ['no embedding', { edit: rename('model.language_model.embed_tokens.weight', 'x') }, 'no embedding'],
  [
    'a missing norm',
    { edit: rename(`${L}2.input_layernorm.weight`, 'x') },
    `${L}2.input_layernorm.weight`,
    'missing',
    '[32]',
  ],
  [
    'a missing projection',
    { edit: rename(`${L}0.linear_attn.in_proj_z.weight`, 'x') },
    'in_proj_z',
    'missing',
    '[48,32]',
  ],
  [
    'a missing expert',
    { experts: 'separate', edit: rename(`${L}3.mlp.experts.5.up_proj.weight`, 'x') },
    'experts.5.up_proj',
    '[24,32]',
  ],
  [
    'transposed experts',
    { edit: reshape(`${L}1.mlp.experts.gate_up_proj`, [6, 32, 48]) },
    'found shape [6,32,48]',
    'expected [6,48,32]',
  ],
  [
    'q_proj without gate',
    { text: { attn_output_gate: false } },
    `${L}1.self_attn.q_proj.weight`,
    'found shape [128,32]',
    'expected [64,32]',
  ],
  ['vocabulary of another size', { edit: reshape('lm_head.weight', [32, 96]) }, 'lm_head.weight', 'expected [96,32]'],
  [
    'integer weights',
    { edit: reshape(`${L}1.self_attn.k_proj.weight`, [32, 32], 'I16') },
    'k_proj',
    'dtype I16',
    'BF16',
  ],
  [
    'FP8 without scales',
    { fp8: true, edit: rename(`${L}1.self_attn.k_proj.weight_scale_inv`, 'x') },
    'k_proj.weight_scale_inv',
  ],
  [
    'scales of another shape',
    { fp8: true, edit: reshape(`${L}1.mlp.experts.down_proj_scale_inv`, [6, 1]) },
    'expected [6,1,1]',
  ],
  [
    'scales of another dtype',
    { fp8: true, edit: reshape(`${L}1.self_attn.q_proj.weight_scale_inv`, [1, 1], 'F16') },
    'F32 or BF16',
  ],
  [
    'more layers than tensors',
    { edit: (tensors) => tensors.filter(({ name }) => !name.startsWith(`${L}3.`)) },
    `${L}3.`,
    'missing',
  ],
];

for (const [title, variant, ...parts] of REFUSED) {
  test(`refused: ${title}`, () => {
    using dir = randomCheckpoint(variant);
    assertFails(() => Checkpoint.open(dir.path), 'checkpoint_invalid', dir.path, ...parts);
  });
}

const INDEX = 'model.safetensors.index.json';

function withIndex(change: (map: Record<string, unknown>, dir: string) => unknown, check: (dir: string) => void): void {
  using dir = randomCheckpoint({ numShards: 2 });
  const path = join(dir.path, INDEX);
  const index = JSON.parse(readFileSync(path, 'utf8')) as { weight_map: Record<string, unknown> };
  const changed = change(index.weight_map, dir.path);
  writeFileSync(path, JSON.stringify(changed === undefined ? index : changed));
  check(dir.path);
}

test('the index must agree with the shards', () => {
  const refuse = (
    change: Parameters<typeof withIndex>[0],
    code: 'checkpoint_invalid' | 'checkpoint_not_found',
    ...parts: string[]
  ): void => withIndex(change, (dir) => assertFails(() => Checkpoint.open(dir), code, ...parts));
  const other = 'model-00002-of-00002.safetensors';
  refuse(
    (map) => void (map['lm_head.weight'] = 'model-00009-of-00002.safetensors'),
    'checkpoint_not_found',
    '00009-of-00002',
  );
  refuse(
    (map) =>
      void (map['lm_head.weight'] = map['lm_head.weight'] === other ? 'model-00001-of-00002.safetensors' : other),
    'checkpoint_invalid',
    'tensor lm_head.weight',
    INDEX,
  );
  refuse((map) => void (map['ghost'] = other), 'checkpoint_invalid', 'tensor ghost', 'it is not');
  refuse((_, dir) => rmSync(join(dir, other)), 'checkpoint_not_found', other);
  refuse(() => ({ weight_map: [] }), 'checkpoint_invalid', 'weight_map', 'expected an object');
  refuse(() => ({ weight_map: {} }), 'checkpoint_invalid', 'weight_map is empty');
  for (const evil of ['../x.safetensors', '/etc/x.safetensors', 'x.bin', '.safetensors', 7, null, {}]) {
    refuse(
      (map) => void (map['lm_head.weight'] = evil),
      'checkpoint_invalid',
      'tensor lm_head.weight',
      'expected the name',
    );
  }
});

test('tensors that the index leaves out are read and mentioned', () => {
  withIndex(
    (map) => void delete map['lm_head.weight'],
    (dir) =>
      assert.match(
        Checkpoint.open(dir).notices.join(),
        /1 tensors are not in model.safetensors.index.json: lm_head.weight/,
      ),
  );
});

test('shards without an index are taken together, and all must be there', () => {
  using dir = randomCheckpoint({ numShards: 3 });
  rmSync(join(dir.path, INDEX));
  assert.ok(Checkpoint.open(dir.path).names.length > 0);
  cpSync(join(dir.path, 'model-00001-of-00003.safetensors'), join(dir.path, 'zz.safetensors'));
  assertFails(() => Checkpoint.open(dir.path), 'checkpoint_invalid', 'is also in model-00001-of-00003.safetensors');
  rmSync(join(dir.path, 'zz.safetensors'));
  rmSync(join(dir.path, 'model-00002-of-00003.safetensors'));
  assertFails(() => Checkpoint.open(dir.path), 'checkpoint_not_found', 'model-00002-of-00003.safetensors');
});

test('a directory without weights and a checkpoint cut in half are refused', () => {
  using empty = temporaryDirectory();
  assertFails(() => Checkpoint.open(empty.path), 'checkpoint_not_found', 'config.json');
  using dir = randomCheckpoint();
  const path = join(dir.path, 'model.safetensors');
  truncateSync(path, Math.floor(readFileSync(path).length / 2));
  assertFails(() => Checkpoint.open(dir.path), 'checkpoint_invalid', path, 'truncated');
  rmSync(path);
  assertFails(() => Checkpoint.open(dir.path), 'checkpoint_not_found', 'no safetensors file');
});

test('the fingerprint follows config, table and contents, and nothing else', () => {
  const fingerprint = (variant: CheckpointVariant): string => {
    using dir = randomCheckpoint(variant);
    return Checkpoint.open(dir.path).fingerprint;
  };
  const plain = fingerprint({});
  assert.equal(fingerprint({ top: { transformers_version: '9' } }), plain);
  assert.notEqual(fingerprint({ seed: 2 }), plain);
  assert.notEqual(fingerprint({ numShards: 2 }), plain);
  assert.notEqual(fingerprint({ text: { rms_norm_eps: 1e-5 } }), plain);
});

test('opening reads no weights; a holder of experts reads the bytes of its experts only', () => {
  for (const variant of [{}, { experts: 'separate' as const }, { fp8: true }, { numShards: 2 }]) {
    using dir = randomCheckpoint(variant);
    const reads: ReadRecord[] = [];
    const ckpt = Checkpoint.open(dir.path, { onRead: (read) => reads.push(read) });
    assert.equal(reads.length, 0);
    for (let expert = 2; expert < 4; expert++) expertSources(ckpt, ckpt.config, 1, expert);
    assert.ok(reads.length > 0);
    const experts = new Set(ckpt.expertNames);
    for (const { tensor, begin, end } of reads) {
      assert.ok(experts.has(tensor), tensor);
      assert.ok(tensor.startsWith(`${L}1.mlp.experts.`), tensor);
      const { shape, byteLength } = ckpt.info(tensor);
      if (variant.experts === 'separate') assert.match(tensor, /experts\.[23]\./);
      else {
        const perExpert = byteLength / (shape[0] ?? 1);
        assert.ok(begin >= 2 * perExpert && end <= 4 * perExpert, `${tensor} [${begin}, ${end})`);
      }
    }
  }
});

test('files are mapped once, whole, and only when weights of theirs are asked for', () => {
  using dir = randomCheckpoint({ numShards: 2 });
  const mapped: number[] = [];
  const sizes = [1, 2].map((n) => readFileSync(join(dir.path, `model-0000${n}-of-00002.safetensors`)).length);
  const ckpt = Checkpoint.open(dir.path, {
    mapFile: (fd, length) => {
      mapped.push(length);
      return new Uint8Array(readFileSync(fd)).buffer;
    },
  });
  assert.deepEqual(mapped, []);
  const inMemory = Checkpoint.open(dir.path);
  for (const name of ckpt.names) assert.deepEqual(ckpt.tensor(name).data, inMemory.tensor(name).data);
  assert.deepEqual(new Set(mapped), new Set(sizes));
  assert.equal(mapped.length, 2);
});

test('mutated checkpoints open or fail with a GuildhallError', () => {
  using base = randomCheckpoint({ numShards: 2 });
  using dir = temporaryDirectory();
  const files = ['config.json', INDEX, 'model-00001-of-00002.safetensors'];
  const change = fc.record({ at: fc.double({ min: 0, max: 1, noNaN: true }), value: fc.nat(255) });
  fc.assert(
    fc.property(fc.constantFrom(...files), fc.array(change, { minLength: 1, maxLength: 4 }), (file, changes) => {
      cpSync(base.path, dir.path, { recursive: true });
      const bytes = readFileSync(join(dir.path, file));
      // Bytes past the header are weights: any value is fine there.
      for (const { at, value } of changes) bytes[Math.floor(at * Math.min(bytes.length - 1, 4000))] = value;
      writeFileSync(join(dir.path, file), bytes);
      try {
        Checkpoint.open(dir.path);
      } catch (err) {
        assert.ok(isGuildhallError(err), String(err));
        assert.ok(err.code === 'checkpoint_invalid' || err.code === 'checkpoint_not_found', err.message);
      }
    }),
    { numRuns: 400 },
  );
});
