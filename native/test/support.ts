/** Small random weights, steps and pools for the tests of the addon. */

import assert from 'node:assert/strict';

import { loadNative } from '../ts/index.ts';
import type {
  BatchSpec,
  Dtype,
  GatedAttentionSpec,
  GatedAttentionWeights,
  GatedDeltaNetSpec,
  GatedDeltaNetWeights,
  IsaPath,
  KvFormat,
  KvPool,
  RowFormat,
  Runtime,
  RuntimeOptions,
  SamplerParams,
  StatePool,
  StepBuffers,
  TensorSource,
  WeightFormat,
} from '../ts/index.ts';

export const native = loadNative();

/** Deterministic numbers (mulberry32). */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed;
  }

  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  }

  int(below: number): number {
    return Math.floor(this.next() * below);
  }

  /** Uniform in [-scale, scale). */
  floats(count: number, scale = 1): Float32Array {
    return Float32Array.from({ length: count }, () => (2 * this.next() - 1) * scale);
  }
}

export function toBf16(values: Float32Array): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  return Uint16Array.from(bits, (b) => (b + 0x7fff + ((b >>> 16) & 1)) >>> 16);
}

export function fromBf16(bits: Uint16Array): Float32Array {
  return new Float32Array(Uint32Array.from(bits, (b) => b << 16).buffer);
}

/** Asserts equal bits, and says where the first difference is instead of printing everything. */
export function assertSameBits(actual: Float32Array, expected: Float32Array, what = ''): void {
  assert.equal(actual.length, expected.length, what);
  const a = new Uint32Array(actual.buffer, actual.byteOffset, actual.length);
  const b = new Uint32Array(expected.buffer, expected.byteOffset, expected.length);
  const at = a.findIndex((bits, i) => bits !== b[i]);
  assert.equal(at, -1, `${what} element ${at}: ${actual[at]}, expected ${expected[at]}`);
}

function bytesOf(view: ArrayBufferView): Uint8Array {
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}

export function tensor(values: Float32Array, shape: [number, number], dtype: Dtype = 'F32'): TensorSource {
  const data = dtype === 'BF16' ? bytesOf(toBf16(values)) : bytesOf(values);
  return { dtype, shape, data, scale: null, rows: null };
}

/** A random weight, scaled so that products keep their size. */
export function weight(random: Random, rows: number, cols: number, dtype: Dtype = 'F32'): TensorSource {
  return tensor(random.floats(rows * cols, 1.7 / Math.sqrt(cols)), [rows, cols], dtype);
}

export function vector(random: Random, n: number, around = 0): TensorSource {
  return tensor(
    random.floats(n, 0.2).map((v) => v + around),
    [n, 1],
  );
}

export function makeRuntime(options: Partial<RuntimeOptions> = {}): Runtime {
  return new native.Runtime({ threads: 1, isa: 'auto', bf16Kernels: 'auto', ...options });
}

/** Instruction sets that this machine can run. */
export function supportedIsas(): IsaPath[] {
  return (['scalar', 'avx2', 'avx512'] as const).filter((isa) => {
    try {
      makeRuntime({ isa });
      return true;
    } catch {
      return false;
    }
  });
}

/** Sizes of the little model; odd on purpose. */
export const sizes = {
  hidden: 52,
  vocab: 75,
  tokenizerSize: 70,
  numExperts: 9,
  topK: 3,
  intermediate: 20,
  shared: 28,
  maxTokens: 400,
  maxLogitRows: 8,
};

export function makeStep(runtime: Runtime, rowFormat: RowFormat = 'f32'): StepBuffers {
  const { maxTokens, hidden, numExperts, topK, maxLogitRows, vocab } = sizes;
  return new native.StepBuffers(runtime, { maxTokens, hidden, numExperts, topK, rowFormat, maxLogitRows, vocab });
}

export interface SequenceSpec {
  tokens: number[];
  contextLen?: number;
  slot?: number;
  /** Slot to begin from, or -2. */
  init?: number;
  snapshot?: { slot: number; rows: number };
  mode?: 0 | 1;
  pages?: number[];
}

export function batchOf(sequences: SequenceSpec[]): BatchSpec {
  const counts = sequences.map((s) => s.tokens.length);
  const total = counts.reduce((a, b) => a + b, 0);
  const maxPages = Math.max(0, ...sequences.map((s) => s.pages?.length ?? 0));
  const positions = sequences.flatMap((s) => s.tokens.map((_, i) => (s.contextLen ?? 0) + i));
  let start = 0;
  return {
    tokenIds: Int32Array.from(sequences.flatMap((s) => s.tokens)),
    positions: Int32Array.from({ length: 3 * total }, (_, i) => positions[i % total] ?? 0),
    rowStart: Int32Array.from(counts, (count) => (start += count) - count),
    rowCount: Int32Array.from(counts),
    contextLen: Int32Array.from(sequences, (s) => s.contextLen ?? 0),
    stateSlot: Int32Array.from(sequences, (s) => s.slot ?? -1),
    initState: Int32Array.from(sequences, (s) => s.init ?? -1),
    snapshotSlot: Int32Array.from(sequences, (s) => s.snapshot?.slot ?? -1),
    snapshotRows: Int32Array.from(sequences, (s) => s.snapshot?.rows ?? 0),
    mode: Int32Array.from(sequences, (s) => s.mode ?? 0),
    pageTable: Int32Array.from(sequences.flatMap((s) => Array.from({ length: maxPages }, (_, p) => s.pages?.[p] ?? 0))),
    maxPages,
  };
}

export const norm = { eps: 1e-6, zeroCentered: true };

export function deltaNetSpec(format: WeightFormat): GatedDeltaNetSpec {
  return {
    hidden: sizes.hidden,
    numKeyHeads: 2,
    numValueHeads: 4,
    keyHeadDim: 12,
    valueHeadDim: 20,
    convKernel: 4,
    inputNorm: norm,
    outputEps: 1e-6,
    format,
    stateLayer: 1,
  };
}

export function deltaNetWeights(random: Random, dtype: Dtype = 'F32'): GatedDeltaNetWeights {
  const s = deltaNetSpec('f32');
  const convDim = 2 * s.numKeyHeads * s.keyHeadDim + s.numValueHeads * s.valueHeadDim;
  const valueDim = s.numValueHeads * s.valueHeadDim;
  return {
    inputNorm: vector(random, s.hidden),
    inProjQkv: weight(random, convDim, s.hidden, dtype),
    inProjZ: weight(random, valueDim, s.hidden, dtype),
    inProjB: weight(random, s.numValueHeads, s.hidden, dtype),
    inProjA: weight(random, s.numValueHeads, s.hidden, dtype),
    conv: weight(random, convDim, s.convKernel),
    dtBias: vector(random, s.numValueHeads, 1),
    aLog: vector(random, s.numValueHeads, 0.5),
    norm: vector(random, s.valueHeadDim, 1),
    outProj: weight(random, s.hidden, valueDim, dtype),
  };
}

export function makeStates(runtime: Runtime): StatePool {
  const s = deltaNetSpec('f32');
  return new native.StatePool(runtime, {
    numSlots: 6,
    numLayers: 2,
    numValueHeads: s.numValueHeads,
    keyHeadDim: s.keyHeadDim,
    valueHeadDim: s.valueHeadDim,
    convDim: 2 * s.numKeyHeads * s.keyHeadDim + s.numValueHeads * s.valueHeadDim,
    convKernel: s.convKernel,
  });
}

export function attentionSpec(format: WeightFormat): GatedAttentionSpec {
  return {
    hidden: sizes.hidden,
    numHeads: 4,
    numKvHeads: 2,
    headDim: 24,
    rotaryDim: 8,
    invFreq: Float32Array.of(1, 0.3, 0.09, 0.027),
    freqAxis: Int32Array.of(0, 1, 2, 0),
    ropeScale: 1,
    outputGate: true,
    inputNorm: norm,
    qkNorm: norm,
    format,
    kvLayer: 1,
  };
}

export function attentionWeights(random: Random, dtype: Dtype = 'F32'): GatedAttentionWeights {
  const s = attentionSpec('f32');
  return {
    inputNorm: vector(random, s.hidden),
    qProj: weight(random, 2 * s.numHeads * s.headDim, s.hidden, dtype),
    kProj: weight(random, s.numKvHeads * s.headDim, s.hidden, dtype),
    vProj: weight(random, s.numKvHeads * s.headDim, s.hidden, dtype),
    oProj: weight(random, s.hidden, s.numHeads * s.headDim, dtype),
    qNorm: vector(random, s.headDim),
    kNorm: vector(random, s.headDim),
  };
}

export function makeKv(runtime: Runtime, format: KvFormat = 'f32'): KvPool {
  const { numKvHeads, headDim } = attentionSpec('f32');
  return new native.KvPool(runtime, { numPages: 24, numLayers: 2, numKvHeads, headDim, format });
}

export function gateSpec(format: WeightFormat) {
  const { hidden, numExperts, topK } = sizes;
  return { hidden, numExperts, topK, normTopk: true, norm, format };
}

export function gateWeights(random: Random, dtype: Dtype = 'F32') {
  return { norm: vector(random, sizes.hidden), gate: weight(random, sizes.numExperts, sizes.hidden, dtype) };
}

export function sharedSpec(format: WeightFormat) {
  return { hidden: sizes.hidden, intermediate: sizes.shared, format };
}

export function sharedWeights(random: Random, dtype: Dtype = 'F32') {
  const { hidden, shared } = sizes;
  return {
    gate: weight(random, shared, hidden, dtype),
    up: weight(random, shared, hidden, dtype),
    down: weight(random, hidden, shared, dtype),
    sharedGate: weight(random, 1, hidden, dtype),
  };
}

export function expertWeights(random: Random, dtype: Dtype = 'F32') {
  const { hidden, intermediate } = sizes;
  return {
    gate: weight(random, intermediate, hidden, dtype),
    up: weight(random, intermediate, hidden, dtype),
    down: weight(random, hidden, intermediate, dtype),
  };
}

export function headSpec(format: WeightFormat) {
  const { hidden, vocab, tokenizerSize } = sizes;
  return { hidden, vocab, tokenizerSize, norm, format };
}

export function headWeights(random: Random, dtype: Dtype = 'F32') {
  return { norm: vector(random, sizes.hidden), head: weight(random, sizes.vocab, sizes.hidden, dtype) };
}

export const samplerParams: SamplerParams = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  seed: 1n,
  choice: 0,
  biasIds: new Int32Array(0),
  biasValues: new Float32Array(0),
  stopIds: new Int32Array(0),
  minTokens: 0,
  topLogprobs: -1,
};
