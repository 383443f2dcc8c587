import type { ModelConfig } from '../config.ts';
import type { LayerLayout, ModelLayout } from './layout.ts';

/** A tensor that the model needs. */
export interface ExpectedTensor {
  name: string;
  shape: number[];
  /** Who reads it: the router, or the holder of the expert. */
  part: 'dense' | 'expert';
  /** A matrix that is multiplied, which may be FP8 with block scales. */
  scalable: boolean;
  /** Number of the routed expert, or null where the tensor is dense or holds all experts of its layer. */
  expert: number | null;
}

/** Blocks of the FP8 scales, along both dimensions. */
export const SCALE_BLOCK = 128;

/** Name of the block scales of a weight: `x.weight` has `x.weight_scale_inv`, a fused `x` has `x_scale_inv`. */
export function scaleName(name: string): string {
  return `${name}_scale_inv`;
}

/** Shape of the block scales of a weight: its last two dimensions in blocks of 128, the last one ragged. */
export function scaleShape(shape: readonly number[]): number[] {
  const blocks = (size: number | undefined): number => Math.ceil((size ?? 1) / SCALE_BLOCK);
  return [...shape.slice(0, -2), blocks(shape.at(-2)), blocks(shape.at(-1))];
}

/** Every tensor of the text model with the shape that the config gives it. */
export function* expectedTensors(config: ModelConfig, layout: ModelLayout): Generator<ExpectedTensor> {
  yield* denseTensors(config, layout);
  for (const layer of layout.layers) yield* expertTensors(config, layer);
}

/** The tensors that the router reads. */
export function* denseTensors(config: ModelConfig, layout: ModelLayout): Generator<ExpectedTensor> {
  const { hidden, vocab } = config;
  yield dense(layout.embedding, [vocab, hidden]);
  for (const [i, layer] of layout.layers.entries()) yield* denseLayerTensors(config, layer, i);
  yield dense(layout.finalNorm, [hidden]);
  if (layout.head !== layout.embedding) yield matrix(layout.head, [vocab, hidden]);
}

/** The tensors of one layer that the router reads. */
export function* denseLayerTensors(config: ModelConfig, layer: LayerLayout, index: number): Generator<ExpectedTensor> {
  const { hidden, moe } = config;
  yield dense(`${layer.prefix}input_layernorm.weight`, [hidden]);
  if (config.layerTypes[index] === 'full_attention') yield* attentionTensors(config, `${layer.prefix}self_attn.`);
  else yield* linearAttentionTensors(config, layer);
  yield dense(`${layer.prefix}post_attention_layernorm.weight`, [hidden]);
  yield matrix(`${layer.prefix}mlp.gate.weight`, [moe.numExperts, hidden]);
  const shared = moe.sharedIntermediate;
  if (shared === null) return;
  yield matrix(`${layer.prefix}mlp.shared_expert.gate_proj.weight`, [shared, hidden]);
  yield matrix(`${layer.prefix}mlp.shared_expert.up_proj.weight`, [shared, hidden]);
  yield matrix(`${layer.prefix}mlp.shared_expert.down_proj.weight`, [hidden, shared]);
  yield dense(`${layer.prefix}mlp.shared_expert_gate.weight`, [1, hidden]);
}

function* attentionTensors(config: ModelConfig, prefix: string): Generator<ExpectedTensor> {
  const { hidden } = config;
  const { numHeads, numKvHeads, headDim, outputGate } = config.attention;
  yield matrix(`${prefix}q_proj.weight`, [numHeads * headDim * (outputGate ? 2 : 1), hidden]);
  yield matrix(`${prefix}k_proj.weight`, [numKvHeads * headDim, hidden]);
  yield matrix(`${prefix}v_proj.weight`, [numKvHeads * headDim, hidden]);
  yield matrix(`${prefix}o_proj.weight`, [hidden, numHeads * headDim]);
  yield dense(`${prefix}q_norm.weight`, [headDim]);
  yield dense(`${prefix}k_norm.weight`, [headDim]);
}

function* linearAttentionTensors(config: ModelConfig, layer: LayerLayout): Generator<ExpectedTensor> {
  const { hidden, linear } = config;
  if (linear === null) return;
  const prefix = `${layer.prefix}linear_attn.`;
  if (layer.projections === 'grouped') {
    yield matrix(`${prefix}in_proj_qkvz.weight`, [linear.convDim + linear.valueDim, hidden]);
    yield matrix(`${prefix}in_proj_ba.weight`, [2 * linear.numValueHeads, hidden]);
  } else {
    yield matrix(`${prefix}in_proj_qkv.weight`, [linear.convDim, hidden]);
    yield matrix(`${prefix}in_proj_z.weight`, [linear.valueDim, hidden]);
    yield matrix(`${prefix}in_proj_b.weight`, [linear.numValueHeads, hidden]);
    yield matrix(`${prefix}in_proj_a.weight`, [linear.numValueHeads, hidden]);
  }
  yield dense(`${prefix}conv1d.weight`, [linear.convDim, 1, linear.convKernel]);
  yield dense(`${prefix}dt_bias`, [linear.numValueHeads]);
  yield dense(`${prefix}A_log`, [linear.numValueHeads]);
  yield dense(`${prefix}norm.weight`, [linear.valueHeadDim]);
  yield matrix(`${prefix}out_proj.weight`, [hidden, linear.valueDim]);
}

/** The routed experts of one layer. */
export function* expertTensors(config: ModelConfig, layer: LayerLayout): Generator<ExpectedTensor> {
  const { hidden, moe } = config;
  const { numExperts, intermediate } = moe;
  const prefix = `${layer.prefix}mlp.experts.`;
  if (layer.experts === 'fused') {
    yield expert(`${prefix}gate_up_proj`, [numExperts, 2 * intermediate, hidden]);
    yield expert(`${prefix}down_proj`, [numExperts, hidden, intermediate]);
    return;
  }
  for (let e = 0; e < numExperts; e++) {
    yield expert(`${prefix}${e}.gate_proj.weight`, [intermediate, hidden], e);
    yield expert(`${prefix}${e}.up_proj.weight`, [intermediate, hidden], e);
    yield expert(`${prefix}${e}.down_proj.weight`, [hidden, intermediate], e);
  }
}

function dense(name: string, shape: number[]): ExpectedTensor {
  return { name, shape, part: 'dense', scalable: false, expert: null };
}

function matrix(name: string, shape: number[]): ExpectedTensor {
  return { name, shape, part: 'dense', scalable: true, expert: null };
}

function expert(name: string, shape: number[], number: number | null = null): ExpectedTensor {
  return { name, shape, part: 'expert', scalable: true, expert: number };
}
