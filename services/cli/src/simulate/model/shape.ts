/** What a model weighs and computes, as far as time and bytes depend on it. Bytes are those of the formats served. */
export interface ModelShape {
  name: string;
  numLayers: number;
  numExperts: number;
  topK: number;
  /** Bytes of a token's row in the row format. */
  rowBytes: number;
  /** Weights of one routed expert, and operations for one row of it. */
  expertBytes: number;
  expertFlops: number;
  /** Every n-th layer is full attention, the others are recurrent. */
  fullEvery: number;
  full: LayerShape;
  recurrent: LayerShape;
  /** The shared expert's part of a layer's weights, in time as in bytes. */
  sharedShare: number;
  /** Final norm and output head. */
  headBytes: number;
  headFlops: number;
}

/** What of a layer is not routed: mixer, gate and shared expert. */
export interface LayerShape {
  weightBytes: number;
  /** Operations for one token besides attention over its context. */
  flopsPerToken: number;
  /** Bytes of K and V, and operations, for one token of context that one token attends to. */
  bytesPerContextToken: number;
  flopsPerContextToken: number;
  /** Recurrent state of one sequence, read and written in each step. */
  stateBytes: number;
}

interface Dimensions {
  name: string;
  numLayers: number;
  numExperts: number;
  topK: number;
  hidden: number;
  expertWidth: number;
  sharedWidth: number;
  heads: number;
  kvHeads: number;
  headDim: number;
  keyHeads: number;
  valueHeads: number;
  stateDim: number;
  vocab: number;
  fullEvery: number;
  /** Bytes of a weight of a routed expert: 1 for FP8, 2 for BF16, 4 for F32; and of every other weight and row value. */
  expertWeight: number;
  denseWeight: number;
  rowValue: number;
}

/** The shape of a model of the Qwen3.5 family from its dimensions. */
export function shapeOf(d: Dimensions): ModelShape {
  const shared = 3 * d.hidden * d.sharedWidth;
  const common = shared + d.hidden * d.numExperts;
  const inner = d.heads * d.headDim;
  const full = d.hidden * (2 * inner + 2 * d.kvHeads * d.headDim) + inner * d.hidden + common;
  const value = d.valueHeads * d.stateDim;
  const recurrent = d.hidden * (2 * d.keyHeads * d.stateDim + 2 * value + 2 * d.valueHeads) + value * d.hidden + common;
  const state = d.valueHeads * d.stateDim * d.stateDim;
  return {
    name: d.name,
    numLayers: d.numLayers,
    numExperts: d.numExperts,
    topK: d.topK,
    rowBytes: d.hidden * d.rowValue,
    expertBytes: 3 * d.hidden * d.expertWidth * d.expertWeight,
    expertFlops: 6 * d.hidden * d.expertWidth,
    fullEvery: d.fullEvery,
    full: {
      weightBytes: full * d.denseWeight,
      flopsPerToken: 2 * full,
      bytesPerContextToken: 2 * d.kvHeads * d.headDim * d.rowValue,
      flopsPerContextToken: 4 * inner,
      stateBytes: 0,
    },
    recurrent: {
      weightBytes: recurrent * d.denseWeight,
      flopsPerToken: 2 * recurrent + 6 * state,
      bytesPerContextToken: 0,
      flopsPerContextToken: 0,
      stateBytes: 4 * state,
    },
    sharedShare: shared / recurrent,
    headBytes: d.hidden * d.vocab * d.denseWeight,
    headFlops: 2 * d.hidden * d.vocab,
  };
}

/** Qwen3.5-397B-A17B with FP8 experts, BF16 elsewhere; its published config. */
export const QWEN_397B = shapeOf({
  name: 'qwen3.5-397b',
  numLayers: 60,
  numExperts: 512,
  topK: 10,
  hidden: 4096,
  expertWidth: 1024,
  sharedWidth: 1024,
  heads: 32,
  kvHeads: 2,
  headDim: 256,
  keyHeads: 16,
  valueHeads: 64,
  stateDim: 128,
  vocab: 248_320,
  fullEvery: 4,
  expertWeight: 1,
  denseWeight: 2,
  rowValue: 2,
});

/** The checkpoint that ships, in f32. */
export const TINY = shapeOf({
  name: 'tiny',
  numLayers: 8,
  numExperts: 16,
  topK: 2,
  hidden: 256,
  expertWidth: 128,
  sharedWidth: 128,
  heads: 4,
  kvHeads: 2,
  headDim: 64,
  keyHeads: 2,
  valueHeads: 4,
  stateDim: 32,
  vocab: 3072,
  fullEvery: 4,
  expertWeight: 4,
  denseWeight: 4,
  rowValue: 4,
});

export const SHAPES: Readonly<Record<string, ModelShape>> = { [QWEN_397B.name]: QWEN_397B, [TINY.name]: TINY };

/** What of layer `layer` is not routed. */
export function layerOf(shape: ModelShape, layer: number): LayerShape {
  return layer % shape.fullEvery === shape.fullEvery - 1 ? shape.full : shape.recurrent;
}
