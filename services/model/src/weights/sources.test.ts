import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TensorSource } from '@guildhall/native';
import { assertFails } from '../testing/errors.ts';
import { randomCheckpoint } from '../testing/random-checkpoint.ts';
import { bf16, fp8 } from '../testing/rearrange.ts';
import { Checkpoint } from './checkpoint.ts';
import { expertBytes, expertSources } from './experts.ts';
import { groupedRows } from './gated-delta-rows.ts';

function widen(dtype: string, bytes: Uint8Array, i: number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (dtype === 'F32') return view.getFloat32(4 * i, true);
  if (dtype === 'BF16') return bf16(view.getUint16(2 * i, true));
  return fp8(view.getUint8(i));
}

/** Values of a source as the contract of TensorSource says: scales belong to source rows. */
function valuesOf(source: TensorSource): number[][] {
  const [numRows, columns] = source.shape;
  const rows = source.rows ?? Int32Array.from({ length: numRows }, (_, r) => r);
  return Array.from(rows, (row) =>
    Array.from({ length: columns }, (_, c) => {
      const value = widen(source.dtype, source.data, row * columns + c);
      if (source.scale === null) return value;
      const block = (row >> 7) * source.scale.shape[1] + (c >> 7);
      return value * widen(source.scale.dtype, source.scale.data, block);
    }),
  );
}

test('vectors, convolutions and matrices get two dimensions', () => {
  using dir = randomCheckpoint();
  const ckpt = Checkpoint.open(dir.path);
  const layer = 'model.language_model.layers.0.';
  assert.deepEqual(ckpt.source(`${layer}input_layernorm.weight`).shape, [32, 1]);
  assert.deepEqual(ckpt.source(`${layer}linear_attn.conv1d.weight`).shape, [80, 4]);
  assert.deepEqual(ckpt.source(`${layer}linear_attn.in_proj_qkv.weight`).shape, [80, 32]);
  assert.deepEqual(ckpt.source(`${layer}mlp.shared_expert_gate.weight`).shape, [1, 32]);
  assert.equal(ckpt.source(`${layer}linear_attn.A_log`).dtype, 'F32');
  assertFails(() => ckpt.tensor('nothing'), 'checkpoint_invalid', 'tensor nothing: missing');
});

test('an expert is the same whether stored fused or alone', () => {
  using fusedDir = randomCheckpoint();
  const fused = Checkpoint.open(fusedDir.path);
  const name = 'model.language_model.layers.2.mlp.experts.';
  const whole = valuesOf(fused.source(`${name}gate_up_proj`)).map((row) => row);
  const { gate, up } = expertSources(fused, fused.config, 2, 4);
  const flat = whole.flat().slice(4 * 48 * 32, 5 * 48 * 32);
  assert.deepEqual([...valuesOf(gate).flat(), ...valuesOf(up).flat()], flat);
  assert.deepEqual([gate.shape, up.shape, gate.rows], [[24, 32], [24, 32], null]);

  using separateDir = randomCheckpoint({ experts: 'separate' });
  const separate = Checkpoint.open(separateDir.path);
  const alone = expertSources(separate, separate.config, 2, 4);
  assert.deepEqual(valuesOf(alone.down), valuesOf(separate.source(`${name}4.down_proj.weight`)));
  assert.deepEqual(
    [alone.gate.shape, alone.up.shape, alone.down.shape],
    [
      [24, 32],
      [24, 32],
      [32, 24],
    ],
  );
});

for (const [title, width] of [
  ['on a block border', 128],
  ['within a block', 200],
] as const) {
  test(`FP8 scales follow the rows of a fused expert whose halves meet ${title}`, () => {
    const text = {
      hidden_size: 160,
      moe_intermediate_size: width,
      num_experts: 3,
      num_experts_per_tok: 2,
      num_hidden_layers: 2,
    };
    using dir = randomCheckpoint({ fp8: true, text });
    const ckpt = Checkpoint.open(dir.path);
    const { gate, up, down } = expertSources(ckpt, ckpt.config, 1, 2);
    const prefix = 'model.language_model.layers.1.mlp.experts.';
    const expected = dequantised(ckpt, `${prefix}gate_up_proj`, 2, 2 * width, 160);
    assert.deepEqual([...valuesOf(gate), ...valuesOf(up)], expected);
    assert.deepEqual(valuesOf(down), dequantised(ckpt, `${prefix}down_proj`, 2, 160, width));
    assert.equal(gate.rows === null, width % 128 === 0);
  });
}

/** Matrix of one expert of a fused FP8 tensor, computed from the whole tensors. */
function dequantised(ckpt: Checkpoint, name: string, expert: number, numRows: number, columns: number): number[][] {
  const weights = ckpt.tensor(name);
  const scales = ckpt.tensor(`${name}_scale_inv`);
  const [, blockRows, blockColumns] = scales.shape as [number, number, number];
  return Array.from({ length: numRows }, (_, r) =>
    Array.from({ length: columns }, (__, c) => {
      const block = (expert * blockRows + Math.floor(r / 128)) * blockColumns + Math.floor(c / 128);
      const index = (expert * numRows + r) * columns + c;
      return widen('F8_E4M3', weights.data, index) * widen(scales.dtype, scales.data, block);
    }),
  );
}

test('experts outside the model are refused', () => {
  using dir = randomCheckpoint();
  const ckpt = Checkpoint.open(dir.path);
  for (const [layer, expert] of [
    [4, 0],
    [0, 6],
    [-1, 0],
    [0, -1],
    [0, 0.5],
  ] as const) {
    assertFails(() => expertSources(ckpt, ckpt.config, layer, expert), 'invalid_value', '4 layers of 6 experts');
  }
  assert.equal(expertBytes(ckpt.config, 'f32'), 3 * 32 * 24 * 4);
  assert.equal(expertBytes(ckpt.config, 'bf16'), 3 * 32 * 24 * 2);
});

test('grouped projections are gathered head by head', () => {
  // Two key heads with two value heads each, Dk 2, Dv 1: a group is q0 q1 k0 k1 v0 v1 z0 z1.
  const linear = {
    numKeyHeads: 2,
    numValueHeads: 4,
    keyHeadDim: 2,
    valueHeadDim: 1,
    convKernel: 4,
    keyDim: 4,
    valueDim: 4,
    convDim: 12,
  };
  const rows = groupedRows(linear);
  assert.deepEqual([...rows.qkv], [0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13]);
  assert.deepEqual([...rows.z], [6, 7, 14, 15]);
  assert.deepEqual([...rows.b], [0, 1, 4, 5]);
  assert.deepEqual([...rows.a], [2, 3, 6, 7]);
});
