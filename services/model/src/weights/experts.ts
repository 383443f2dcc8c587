import { fail } from '@guildhall/common';
import type { TensorSource, WeightFormat } from '@guildhall/native';
import type { ModelConfig } from '../config.ts';
import type { ByteReader, Checkpoint, TensorRange } from './checkpoint.ts';
import { expertTensors, SCALE_BLOCK, scaleName } from './expected.ts';
import type { LayerLayout } from './layout.ts';
import { tensorBytes } from './safetensors/dtype.ts';

/** The three matrices of one routed expert: gate and up are [I, H], down is [H, I]. */
export interface ExpertSources {
  gate: TensorSource;
  up: TensorSource;
  down: TensorSource;
}

/**
 * Weights of one routed expert, fused or one by one, plain or FP8. Only the bytes of this expert are touched.
 * @param read where bytes come from, by default the checkpoint's files.
 * @throws invalid_value for a layer or expert that the model does not have.
 */
export function expertSources(
  ckpt: Checkpoint,
  config: ModelConfig,
  layer: number,
  expert: number,
  read: ByteReader = (name, begin, end) => ckpt.bytes(name, begin, end),
): ExpertSources {
  const layout = layoutOf(ckpt, layer, expert);
  const prefix = `${layout.prefix}mlp.experts.`;
  if (layout.experts === 'fused') return fusedSources({ ckpt, read }, config, prefix, expert);
  return {
    gate: ckpt.source(`${prefix}${expert}.gate_proj.weight`, null, read),
    up: ckpt.source(`${prefix}${expert}.up_proj.weight`, null, read),
    down: ckpt.source(`${prefix}${expert}.down_proj.weight`, null, read),
  };
}

function layoutOf(ckpt: Checkpoint, layer: number, expert: number): LayerLayout {
  const { config } = ckpt;
  const layout = ckpt.layout.layers[layer];
  if (layout !== undefined && Number.isInteger(expert) && expert >= 0 && expert < config.moe.numExperts) return layout;
  throw fail(
    'invalid_value',
    `expert ${expert} of layer ${layer}: the model has ${config.numLayers} layers of ${config.moe.numExperts} experts`,
  );
}

/**
 * Every byte of the checkpoint that one routed expert is made of, block scales included, as ranges of tensors in an order
 * that is the same everywhere.
 * @throws invalid_value for a layer or expert that the model does not have.
 */
export function expertRanges(ckpt: Checkpoint, layer: number, expert: number): TensorRange[] {
  const ranges: TensorRange[] = [];
  const { numExperts } = ckpt.config.moe;
  for (const expected of expertTensors(ckpt.config, layoutOf(ckpt, layer, expert))) {
    if (expected.expert !== null && expected.expert !== expert) continue;
    const scales = ckpt.info(expected.name).dtype === 'F8_E4M3' ? [scaleName(expected.name)] : [];
    for (const tensor of [expected.name, ...scales]) {
      const { byteLength } = ckpt.info(tensor);
      const size = expected.expert === null ? byteLength / numExperts : byteLength;
      const begin = expected.expert === null ? expert * size : 0;
      ranges.push({ tensor, begin, end: begin + size });
    }
  }
  return ranges;
}

interface Weights {
  ckpt: Checkpoint;
  read: ByteReader;
}

function fusedSources(weights: Weights, config: ModelConfig, prefix: string, expert: number): ExpertSources {
  const { ckpt } = weights;
  const { hidden, moe } = config;
  const { intermediate } = moe;
  const gateUp = `${prefix}gate_up_proj`;
  const down = slab(weights, `${prefix}down_proj`, expert, [hidden, intermediate], 0, hidden);
  const scaled = ckpt.has(scaleName(gateUp)) && ckpt.info(gateUp).dtype === 'F8_E4M3';
  const shape: [number, number] = [2 * intermediate, hidden];
  if (scaled && intermediate % SCALE_BLOCK !== 0) {
    // The block that holds the border belongs to both halves: each takes its rows out of the whole.
    const whole = slab(weights, gateUp, expert, shape, 0, 2 * intermediate);
    const rowsFrom = (first: number): Int32Array => Int32Array.from({ length: intermediate }, (_, r) => first + r);
    return { gate: { ...whole, rows: rowsFrom(0) }, up: { ...whole, rows: rowsFrom(intermediate) }, down };
  }
  return {
    gate: slab(weights, gateUp, expert, shape, 0, intermediate),
    up: slab(weights, gateUp, expert, shape, intermediate, 2 * intermediate),
    down,
  };
}

/** Rows [first, last) of one expert's matrix of `shape` in a 3-D tensor. `first` lies on a scale block if it is FP8. */
function slab(
  { ckpt, read }: Weights,
  name: string,
  expert: number,
  shape: [number, number],
  first: number,
  last: number,
): TensorSource {
  const [numRows, columns] = shape;
  const { dtype } = ckpt.info(name);
  const rowBytes = tensorBytes(dtype, [columns]) ?? 0;
  const base = expert * numRows * rowBytes;
  const data = read(name, base + first * rowBytes, base + last * rowBytes);
  const source = { dtype: dtype as TensorSource['dtype'], shape: [last - first, columns] as [number, number], data };
  if (dtype !== 'F8_E4M3') return { ...source, scale: null, rows: null };

  const scales = ckpt.info(scaleName(name));
  const [, blockRows, blockColumns] = scales.shape as [number, number, number];
  const scaleRowBytes = tensorBytes(scales.dtype, [blockColumns]) ?? 0;
  const firstBlock = first / SCALE_BLOCK;
  const lastBlock = Math.ceil(last / SCALE_BLOCK);
  const scaleBase = expert * blockRows * scaleRowBytes;
  const scale = {
    dtype: scales.dtype as 'F32' | 'BF16',
    data: read(scales.name, scaleBase + firstBlock * scaleRowBytes, scaleBase + lastBlock * scaleRowBytes),
    shape: [lastBlock - firstBlock, blockColumns] as [number, number],
  };
  return { ...source, scale, rows: null };
}

/**
 * Experts of each layer whose files are on this machine, ascending; null where all are.
 * @param lost files that are not here any more, by name.
 */
export function loadableExperts(
  ckpt: Checkpoint,
  lost: ReadonlySet<string> = new Set(),
): { layer: number; experts: number[] }[] | null {
  if (ckpt.outlinedFiles.length === 0 && lost.size === 0) return null;
  const { config, layout } = ckpt;
  const isHere = (name: string): boolean => ckpt.isHere(name) && !lost.has(ckpt.info(name).file);
  return layout.layers.map((storage, layer) => {
    const missing = new Set<number>();
    for (const { name, expert } of expertTensors(config, storage)) {
      if ([name, scaleName(name)].every((part) => !ckpt.has(part) || isHere(part))) continue;
      // A fused tensor holds them all.
      for (let e = 0; e < config.moe.numExperts; e++) if (expert === null || expert === e) missing.add(e);
    }
    const experts = Array.from({ length: config.moe.numExperts }, (_, e) => e).filter((e) => !missing.has(e));
    return { layer, experts };
  });
}

/** Outputs that the kernels pack side by side. */
const PANEL_COLUMNS = 16;

/** Inputs that are packed together in a format, and the bytes that they take in a panel with their scales. */
const PACKED_BLOCKS: Record<WeightFormat, { inputs: number; bytes: number }> = {
  f32: { inputs: 1, bytes: 4 * PANEL_COLUMNS },
  bf16: { inputs: 2, bytes: 4 * PANEL_COLUMNS },
  fp8: { inputs: 128, bytes: 132 * PANEL_COLUMNS },
  q8: { inputs: 128, bytes: 132 * PANEL_COLUMNS },
  q4: { inputs: 128, bytes: 72 * PANEL_COLUMNS },
};

/** Bytes of a matrix of `outputs` by `inputs`, packed in a weight format (native/include/guildhall/weight_format.h). */
export function packedBytes(outputs: number, inputs: number, format: WeightFormat): number {
  const block = PACKED_BLOCKS[format];
  return Math.ceil(outputs / PANEL_COLUMNS) * Math.ceil(inputs / block.inputs) * block.bytes;
}

/**
 * Bytes that one routed expert takes in memory, packed in the weight format: gate and up in one matrix of H inputs and
 * 2I outputs, down of I inputs and H outputs.
 */
export function expertBytes(config: ModelConfig, format: WeightFormat): number {
  const { hidden, moe } = config;
  return packedBytes(2 * moe.intermediate, hidden, format) + packedBytes(hidden, moe.intermediate, format);
}
