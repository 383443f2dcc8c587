import { fail } from '@guildhall/common';
import {
  footprintOf,
  type LayerMatrices,
  type ModelConfig,
  type ModelFootprint,
  type PackedMatrix,
} from '@guildhall/model/weights';
import { mustKnow } from '../../catalogue/models.ts';

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

/** How many bytes numbers take. */
export interface ShapeBytes {
  /** A matrix of the router. */
  matrix: (matrix: PackedMatrix) => number;
  expert: number;
  /** A row between router and workers. */
  row: number;
  /** K and V of a token on one full-attention layer. */
  contextToken: number;
}

/** The shape of a model from its config and its matrices. Models without recurrent layers have only full ones. */
export function shapeOf(
  name: string,
  config: ModelConfig,
  { layers, head }: Pick<ModelFootprint, 'layers' | 'head'>,
  bytes: ShapeBytes,
): ModelShape {
  const { hidden, moe, linear, attention } = config;
  const inner = attention.numHeads * attention.headDim;
  const state = linear === null ? 0 : linear.numValueHeads * linear.keyHeadDim * linear.valueHeadDim;
  const layerOfType = (type: LayerMatrices['type']): LayerMatrices | undefined =>
    layers.find((layer) => layer.type === type);
  const attending = layerOfType('full_attention');
  const recurrent = layerOfType('linear_attention') ?? attending;
  const typical = recurrent ?? attending;
  const full = {
    ...weightsOf(attending ?? typical, bytes),
    bytesPerContextToken: bytes.contextToken,
    flopsPerContextToken: 4 * inner,
    stateBytes: 0,
  };
  const perToken = weightsOf(typical, bytes);
  return {
    name,
    numLayers: config.numLayers,
    numExperts: moe.numExperts,
    topK: moe.topK,
    rowBytes: bytes.row,
    expertBytes: bytes.expert,
    expertFlops: 6 * hidden * moe.intermediate,
    fullEvery: fullEveryOf(config),
    full,
    recurrent: {
      ...perToken,
      flopsPerToken: perToken.flopsPerToken + 6 * state,
      bytesPerContextToken: 0,
      flopsPerContextToken: 0,
      stateBytes: 4 * state,
    },
    sharedShare: sumOf(typical?.shared ?? [], numbersOf) / Math.max(1, sumOf(matricesOf(typical), numbersOf)),
    headBytes: bytes.matrix(head),
    headFlops: 2 * numbersOf(head),
  };
}

function fullEveryOf({ layerTypes }: ModelConfig): number {
  return layerTypes.indexOf('full_attention') + 1 || layerTypes.length + 1;
}

const numbersOf = ({ outputs, inputs }: PackedMatrix): number => outputs * inputs;

function sumOf(matrices: readonly PackedMatrix[], of: (matrix: PackedMatrix) => number): number {
  return matrices.reduce((sum, matrix) => sum + of(matrix), 0);
}

function matricesOf(layer: LayerMatrices | undefined): readonly PackedMatrix[] {
  return layer === undefined ? [] : [...layer.mixer, layer.gate, ...layer.shared];
}

function weightsOf(
  layer: LayerMatrices | undefined,
  bytes: ShapeBytes,
): { weightBytes: number; flopsPerToken: number } {
  const matrices = matricesOf(layer);
  return { weightBytes: sumOf(matrices, bytes.matrix), flopsPerToken: 2 * sumOf(matrices, numbersOf) };
}

/** Bytes by the width of a number alone, without scales or padding: 1 for FP8, 2 for BF16, 4 for F32. */
function plainShape(name: string, model: string, width: { expert: number; other: number }): ModelShape {
  const { config } = mustKnow(model);
  const { attention, hidden, moe } = config;
  return shapeOf(name, config, footprintOf(config, 'bf16', 'bf16'), {
    matrix: (matrix) => numbersOf(matrix) * width.other,
    expert: 3 * hidden * moe.intermediate * width.expert,
    row: hidden * width.other,
    contextToken: 2 * attention.numKvHeads * attention.headDim * width.other,
  });
}

// Each is made when it is first asked for: a machine that joins a cluster has no checkpoint to read yet.
const MAKERS: Readonly<Record<string, () => ModelShape>> = {
  'qwen3.5-397b': () => plainShape('qwen3.5-397b', 'qwen3.5-397b-a17b', { expert: 1, other: 2 }),
  tiny: () => plainShape('tiny', 'tiny', { expert: 4, other: 4 }),
};
const made = new Map<string, ModelShape>();

/** Names of the shapes that need no checkpoint of the user. */
export const SHAPE_NAMES: readonly string[] = Object.keys(MAKERS);

/**
 * A shape by its name: `qwen3.5-397b` is Qwen3.5-397B-A17B with FP8 experts and BF16 elsewhere, `tiny` the checkpoint
 * that ships, in f32. Throws `internal` for other names, `checkpoint_not_found` where the checkpoint is not there.
 */
export function shapeNamed(name: string): ModelShape {
  const known = made.get(name);
  if (known !== undefined) return known;
  const make = Object.hasOwn(MAKERS, name) ? MAKERS[name] : undefined;
  if (make === undefined) throw fail('internal', `there is no shape ${name}`);
  const shape = make();
  made.set(name, shape);
  return shape;
}

/** What of layer `layer` is not routed. */
export function layerOf(shape: ModelShape, layer: number): LayerShape {
  return layer % shape.fullEvery === shape.fullEvery - 1 ? shape.full : shape.recurrent;
}
