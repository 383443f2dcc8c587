import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Checkpoint } from '@guildhall/model';
import { ensureModel } from '../models/generate.ts';
import { MODEL_NAMES, modelSpec, type ModelName } from '../models/specs.ts';
import { Progress } from '../progress.ts';
import { decode, readGguf, type GgufFile } from '../testing/gguf-reader.ts';
import { ensureGguf, tiledHeads } from './convert.ts';

const tinyDir = fileURLToPath(new URL('../../../models/tiny', import.meta.url));
const quiet = new Progress({ isTTY: true, write: () => true } as unknown as NodeJS.WriteStream);
let modelsDir = '';

before(() => {
  modelsDir = mkdtempSync(join(tmpdir(), 'guildhall-bench-'));
});
after(() => rmSync(modelsDir, { recursive: true, force: true }));

function modelDir(name: ModelName): string {
  return ensureModel({ modelsDir, name, size: 'small', tinyDir }, quiet);
}

function gguf(name: ModelName, format: 'BF16' | 'Q8_0' | 'Q4_0'): GgufFile {
  return readGguf(readFileSync(ensureGguf(modelDir(name), modelSpec(name, 'small'), format, quiet)));
}

/** Numbers of a checkpoint's tensor. */
function numbers(checkpoint: Checkpoint, name: string): Float64Array {
  const { dtype, data } = checkpoint.tensor(name);
  return decode(dtype as 'BF16' | 'F32', data);
}

function sameBytes(found: Uint8Array | undefined, expected: Uint8Array): boolean {
  return found !== undefined && expected.length > 0 && Buffer.compare(found, expected) === 0;
}

test('a generated checkpoint opens, with the shapes of its config, finite numbers and the same bytes each time', () => {
  for (const name of MODEL_NAMES) {
    const dir = modelDir(name);
    const checkpoint = Checkpoint.open(dir);
    assert.equal(checkpoint.config.vocab, 4096);
    const values = numbers(checkpoint, 'lm_head.weight');
    assert.ok(values.every(Number.isFinite));
    const deviation = Math.sqrt(values.reduce((sum, x) => sum + x * x, 0) / values.length);
    assert.ok(Math.abs(deviation * 16 - 1) < 0.01, `deviation ${deviation} of 256 inputs`);
    const bytes = readFileSync(join(dir, 'model.safetensors'));
    const again = ensureModel({ modelsDir: join(modelsDir, 'again'), name, size: 'small', tinyDir }, quiet);
    assert.ok(readFileSync(join(again, 'model.safetensors')).equals(bytes));
  }
});

test('BF16 files hold the checkpoint’s numbers, and their metadata its sizes', () => {
  const checkpoint = Checkpoint.open(modelDir('qwen3moe'));
  const file = gguf('qwen3moe', 'BF16');
  assert.equal(file.metadata.get('general.architecture'), 'qwen3moe');
  assert.equal(file.metadata.get('qwen3moe.expert_count'), 8);
  assert.equal(file.metadata.get('qwen3moe.rope.freq_base'), 1e7);
  const queries = file.tensors.get('blk.3.attn_q.weight');
  assert.deepEqual(queries?.shape, [256, 256]);
  assert.ok(sameBytes(queries?.data, checkpoint.tensor('model.layers.3.self_attn.q_proj.weight').data));
  const down = file.tensors.get('blk.1.ffn_down_exps.weight');
  assert.deepEqual(down?.shape, [8, 256, 64]);
  const size = (down?.data.length ?? 0) / 8;
  const expert = checkpoint.tensor('model.layers.1.mlp.experts.5.down_proj.weight');
  assert.ok(sameBytes(down?.data.subarray(5 * size, 6 * size), expert.data));
  const norm = file.tensors.get('blk.0.ffn_norm.weight');
  assert.equal(norm?.type, 'F32');
  const plain = numbers(checkpoint, 'model.layers.0.post_attention_layernorm.weight');
  assert.deepEqual(decode('F32', norm?.data ?? new Uint8Array()), plain);
});

test('hybrid files: norms with one added, decay as -exp, value heads tiled over key heads', () => {
  const checkpoint = Checkpoint.open(modelDir('qwen35moe'));
  const file = gguf('qwen35moe', 'BF16');
  const from = 'model.language_model.layers.0.';
  const tensor = (name: string): Float64Array => {
    const found = file.tensors.get(name);
    assert.ok(found !== undefined, name);
    return decode(found.type, found.data);
  };
  const norm = numbers(checkpoint, `${from}input_layernorm.weight`);
  assert.deepEqual(
    tensor('blk.0.attn_norm.weight'),
    norm.map((w) => Math.fround(w + 1)),
  );
  assert.deepEqual(tensor('blk.0.ssm_norm.weight'), numbers(checkpoint, `${from}linear_attn.norm.weight`));
  // Heads 0 1 2 3 of two key heads become 0 2 1 3.
  const order = [0, 2, 1, 3];
  const decay = numbers(checkpoint, `${from}linear_attn.A_log`);
  assert.deepEqual(
    [...tensor('blk.0.ssm_a')],
    order.map((head) => Math.fround(-Math.exp(decay[head] ?? NaN))),
  );
  const z = numbers(checkpoint, `${from}linear_attn.in_proj_z.weight`);
  const head = 128 * 256;
  const tiled = tensor('blk.0.attn_gate.weight');
  for (const [to, head0] of order.entries()) {
    assert.deepEqual(tiled.slice(to * head, (to + 1) * head), z.slice(head0 * head, (head0 + 1) * head));
  }
  const out = numbers(checkpoint, `${from}linear_attn.out_proj.weight`);
  const columns = tensor('blk.0.ssm_out.weight');
  for (let row = 0; row < 256; row += 51) {
    for (let c = 0; c < 512; c += 37) {
      const source = (order[Math.floor(c / 128)] ?? 0) * 128 + (c % 128);
      assert.equal(columns[row * 512 + c], out[row * 512 + source]);
    }
  }
  const qkv = numbers(checkpoint, `${from}linear_attn.in_proj_qkv.weight`);
  const mixed = tensor('blk.0.attn_qkv.weight');
  assert.deepEqual(mixed.slice(0, 512 * 256), qkv.slice(0, 512 * 256));
  assert.deepEqual(mixed.slice(640 * 256, 768 * 256), qkv.slice(768 * 256, 896 * 256));
  const conv = numbers(checkpoint, `${from}linear_attn.conv1d.weight`);
  assert.deepEqual(tensor('blk.0.ssm_conv1d.weight').slice(640 * 4, 768 * 4), conv.slice(768 * 4, 896 * 4));
  const gateUp = numbers(checkpoint, `${from}mlp.experts.gate_up_proj`);
  const up = tensor('blk.0.ffn_up_exps.weight');
  assert.deepEqual(up.slice(3 * 64 * 256, 4 * 64 * 256), gateUp.slice((3 * 128 + 64) * 256, 4 * 128 * 256));
});

test('quantised files: every matrix in the format, the output matrix of 4-bit files at six bits, the rest in F32', () => {
  for (const name of MODEL_NAMES) {
    for (const format of ['Q8_0', 'Q4_0'] as const) {
      const { tensors } = gguf(name, format);
      for (const [tensor, { type }] of tensors) {
        const plain = /norm|ssm_a$|ssm_dt|conv1d|ffn_gate_inp/.test(tensor);
        const expected = plain ? 'F32' : tensor === 'output.weight' && format === 'Q4_0' ? 'Q6_K' : format;
        assert.equal(type, expected, `${name} ${tensor}`);
      }
      const reference = gguf(name, 'BF16').tensors;
      for (const tensor of ['output.weight', 'blk.2.ffn_gate_exps.weight', 'token_embd.weight']) {
        const exact = decode('BF16', reference.get(tensor)?.data ?? new Uint8Array());
        const found = tensors.get(tensor);
        const coarse = decode(found?.type ?? 'F32', found?.data ?? new Uint8Array());
        const error = coarse.reduce((sum, x, i) => sum + (x - (exact[i] ?? NaN)) ** 2, 0);
        const power = exact.reduce((sum, x) => sum + x * x, 0);
        assert.ok(Math.sqrt(error / power) < (format === 'Q8_0' ? 0.01 : 0.12), `${name} ${tensor}`);
      }
    }
  }
});

test('tiled heads are a permutation', () => {
  assert.deepEqual([...tiledHeads(8, 16)], [0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15]);
  assert.deepEqual([...tiledHeads(3, 3)], [0, 1, 2]);
});
