import { fail } from '@guildhall/common';
import type { KvFormat, WeightFormat } from '@guildhall/native';
import { type LayerType, type ModelConfig, numFullLayers, numLinearLayers } from '../config.ts';
import { rowFormatOf } from '../numerics.ts';
import { denseLayerTensors, type ExpectedTensor, expectedTensors } from './expected.ts';
import { expertBytes, packedBytes } from './experts.ts';
import { findLayout, type LayerLayout, type ModelLayout } from './layout.ts';

/** Tokens of a page of the KV pool. */
const PAGE_TOKENS = 64;
const F32_BYTES = 4;
const NUMBER_BYTES: Record<KvFormat, number> = { f32: 4, bf16: 2, fp8: 1 };

/** A matrix as it is packed: the rows of the tensors that are multiplied together, in one. */
export interface PackedMatrix {
  outputs: number;
  inputs: number;
  format: WeightFormat;
}

/** What of one layer the router multiplies. */
export interface LayerMatrices {
  type: LayerType;
  /** Attention or DeltaNet projections. */
  mixer: readonly PackedMatrix[];
  gate: PackedMatrix;
  /** The shared expert with its gate; empty in models without one. */
  shared: readonly PackedMatrix[];
}

/** What a model takes in memory, in bytes, as the native library stores it. */
export interface ModelFootprint {
  weights: WeightFormat;
  kvFormat: KvFormat;
  /** Of every layer. */
  layers: readonly LayerMatrices[];
  head: PackedMatrix;
  /** The table of embeddings, of which a token reads one row. */
  embeddingBytes: number;
  /** Everything a router loads: embedding, layers without routed experts, head. */
  denseBytes: number;
  /** One routed expert, and all of them. */
  expertBytes: number;
  allExpertBytes: number;
  /** A page of 64 tokens over all full-attention layers, and a token's part of it. */
  pageBytes: number;
  kvTokenBytes: number;
  /** DeltaNet state of one sequence, or of one snapshot: the matrices and the inputs of the convolution. */
  stateBytes: number;
  /** Of those, the matrices alone. */
  deltaBytes: number;
  /** A row of activations between router and workers. */
  rowBytes: number;
}

/** Parameters by who holds them. */
export interface ParameterCounts {
  total: number;
  /** Of all routed experts. */
  routed: number;
  /** Those that one token is multiplied with or reads: everything but the experts that it does not choose. */
  active: number;
}

/** Bytes of a packed matrix. */
export function matrixBytes({ outputs, inputs, format }: PackedMatrix): number {
  return packedBytes(outputs, inputs, format);
}

/**
 * What a model takes in memory under a weight format and a format of KV pages. Exact for checkpoints in BF16 or FP8,
 * whose gates and embeddings are BF16; vectors (norms, convolutions: less than a thousandth) are left out, as they are in
 * the native library's accounts.
 */
export function footprintOf(config: ModelConfig, weights: WeightFormat, kvFormat: KvFormat): ModelFootprint {
  const layout = canonicalLayout(config);
  const layers = layout.layers.map((layer, i) => layerMatrices(config, layer, i, weights));
  const head = { outputs: config.vocab, inputs: config.hidden, format: weights };
  const embeddingBytes = config.vocab * config.hidden * NUMBER_BYTES.bf16;
  const expert = expertBytes(config, weights);
  const { pageBytes, kvTokenBytes } = kvBytes(config, kvFormat);
  const deltaBytes = deltaOf(config);
  return {
    weights,
    kvFormat,
    layers,
    head,
    embeddingBytes,
    denseBytes: embeddingBytes + matrixBytes(head) + layers.reduce((sum, layer) => sum + layerBytes(layer), 0),
    expertBytes: expert,
    allExpertBytes: expert * config.numLayers * config.moe.numExperts,
    pageBytes,
    kvTokenBytes,
    stateBytes: deltaBytes + convolutionOf(config),
    deltaBytes,
    rowBytes: config.hidden * NUMBER_BYTES[rowFormatOf(weights)],
  };
}

/** Bytes of a layer without its routed experts. */
export function layerBytes({ mixer, gate, shared }: LayerMatrices): number {
  return [...mixer, gate, ...shared].reduce((sum, matrix) => sum + matrixBytes(matrix), 0);
}

/** Parameters of the text model, without prediction heads for further tokens and without a vision tower. */
export function parametersOf(config: ModelConfig): ParameterCounts {
  let [total, routed] = [0, 0];
  for (const { part, shape } of expectedTensors(config, canonicalLayout(config))) {
    const count = shape.reduce((product, size) => product * size, 1);
    total += count;
    if (part === 'expert') routed += count;
  }
  return { total, routed, active: total - routed + (routed * config.moe.topK) / config.moe.numExperts };
}

/** Rows of a micro-batch's activations, and rows of logits, at most. */
export interface StepLimits {
  maxTokens: number;
  maxLogitRows: number;
}

/** Bytes of the activations of one micro-batch (native/src/step_buffers.cpp), with its table of rotations. */
export function stepBufferBytes(config: ModelConfig, weights: WeightFormat, limits: StepLimits): number {
  const { hidden, vocab, moe, attention } = config;
  const rowBytes = hidden * NUMBER_BYTES[rowFormatOf(weights)];
  // Hidden, normed and shared rows; the rows to dispatch; chosen experts and their weights; rows that come back.
  const token = 3 * hidden * F32_BYTES + rowBytes + moe.topK * (2 * F32_BYTES + rowBytes);
  return limits.maxTokens * (token + attention.rope.rotaryDim * F32_BYTES) + limits.maxLogitRows * vocab * F32_BYTES;
}

/** Names and storage of a checkpoint of the family as it is published. */
function canonicalLayout(config: ModelConfig): ModelLayout {
  return findLayout(config.file, (name) => !name.endsWith('in_proj_qkvz.weight'), config);
}

/** What is packed together: suffixes of tensors whose rows become one matrix. */
const STACKS: readonly (readonly string[])[] = [
  ['in_proj_qkv.weight', 'in_proj_z.weight', 'in_proj_b.weight', 'in_proj_a.weight'],
  ['q_proj.weight', 'k_proj.weight', 'v_proj.weight'],
  ['shared_expert.gate_proj.weight', 'shared_expert.up_proj.weight'],
];

function layerMatrices(config: ModelConfig, layer: LayerLayout, index: number, format: WeightFormat): LayerMatrices {
  const own = [...denseLayerTensors(config, layer, index)];
  const named = (suffix: string): ExpectedTensor[] => own.filter(({ name }) => name.endsWith(suffix));
  const mixer = own.filter(({ name, scalable }) => scalable && /\.(linear_attn|self_attn)\./.test(name));
  const shared = own.filter(({ name, scalable }) => scalable && name.includes('.shared_expert.'));
  const [gate] = named('.mlp.gate.weight').map((tensor) => packed([tensor], 'bf16'));
  if (gate === undefined) throw fail('internal', `layer ${index} has no gate`);
  const sharedGate = named('.shared_expert_gate.weight').map((tensor) => packed([tensor], 'bf16'));
  const type = config.layerTypes[index] ?? 'full_attention';
  return { type, mixer: stacked(mixer, format), gate, shared: [...stacked(shared, format), ...sharedGate] };
}

function stacked(tensors: readonly ExpectedTensor[], format: WeightFormat): PackedMatrix[] {
  const stackOf = ({ name }: ExpectedTensor): string =>
    STACKS.find((suffixes) => suffixes.some((suffix) => name.endsWith(suffix)))?.[0] ?? name;
  return [...Map.groupBy(tensors, stackOf).values()].map((parts) => packed(parts, format));
}

function packed(parts: readonly ExpectedTensor[], format: WeightFormat): PackedMatrix {
  const outputs = parts.reduce((sum, { shape }) => sum + (shape[0] ?? 1), 0);
  return { outputs, inputs: parts[0]?.shape[1] ?? 1, format };
}

/** native/include/guildhall/ops/kv_layout.h; FP8 pages have a factor for each token and head, of K and of V. */
function kvBytes(config: ModelConfig, format: KvFormat): { pageBytes: number; kvTokenBytes: number } {
  const { numKvHeads, headDim } = config.attention;
  const factors = format === 'fp8' ? 2 * F32_BYTES : 0;
  // A pool has a layer also where no layer uses it.
  const layers = Math.max(1, numFullLayers(config));
  const kvTokenBytes = layers * numKvHeads * (2 * headDim * NUMBER_BYTES[format] + factors);
  return { pageBytes: PAGE_TOKENS * kvTokenBytes, kvTokenBytes };
}

/** Matrices of the delta rule, in F32: value heads times key by value dimensions. */
function deltaOf(config: ModelConfig): number {
  if (config.linear === null) return 0;
  const { numValueHeads, keyHeadDim, valueHeadDim } = config.linear;
  return numLinearLayers(config) * numValueHeads * keyHeadDim * valueHeadDim * F32_BYTES;
}

/** The inputs that the causal convolution looks back at, in F32. */
function convolutionOf(config: ModelConfig): number {
  if (config.linear === null) return 0;
  return numLinearLayers(config) * (config.linear.convKernel - 1) * config.linear.convDim * F32_BYTES;
}
