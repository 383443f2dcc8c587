/**
 * Declarations of the native addon, in export order. Types that cross are plain data and opaque handles;
 * validation of files and requests lives above, but every argument is checked again natively and a bad one
 * throws a TypeError or RangeError whose `code` is `NATIVE_INVALID_ARGUMENT` and whose message starts with
 * the argument's path. Absent values are `null`, never undefined.
 *
 * Every `forward` runs on the runtime's driver thread (decode lane first, also in the middle of a prefill call) and resolves a promise; the handles
 * that it uses are kept alive until then. Two forwards on the same StepBuffers must not overlap.
 */

import type { KvPool, KvPoolOptions, StatePool, StatePoolOptions } from './pools.ts';

/** `Q8` and `Q4` are what `quantise` makes: see QuantisedSource. */
export type Dtype = 'F32' | 'BF16' | 'F16' | 'F8_E4M3' | 'Q8' | 'Q4';
/**
 * Format in which weights are packed and multiplied. `fp8`: e4m3 with a scale for each 128 inputs of an output, or the
 * scales of an FP8 checkpoint as they are. `q8`: int8 with a scale for each 64 inputs. `q4`: 4 bits with a scale for each 32.
 */
export type WeightFormat = 'f32' | 'bf16' | 'fp8' | 'q8' | 'q4';
export type QuantisedFormat = Exclude<WeightFormat, 'f32' | 'bf16'>;
export type RowFormat = 'f32' | 'bf16';
/** Format of KV pages; fp8 is E4M3 with a factor for each token and head, of K and of V. */
export type KvFormat = 'f32' | 'bf16' | 'fp8';
/** Arithmetic of attention: f32 multiply-adds on every instruction set, or pairwise bf16 dots (AVX-512 BF16 and VBMI). */
export type KvKernel = 'fma' | 'dot';
export type CombineMode = 'exact' | 'partial';
export type IsaPath = 'scalar' | 'avx2' | 'avx512';
/**
 * Matmul family; part of the numerics class.
 * `f32-fma`: f32 weights. `bf16-fma`: bf16 weights widened, f32 activations. `bf16-dot`: bf16 weights, activations
 * rounded to bf16, pairwise dot instructions (AVX-512 BF16 only). `fp8-fma` and `fp8-dot` do the same with e4m3 weights,
 * in blocks of 128 inputs. `q8-dot`, `q4-dot`: activations rounded to int8 with a scale for each 64 inputs, integer dot
 * products. All but the two bf16 dot families give the same bits on every ISA path.
 */
export type KernelFamily = 'f32-fma' | 'bf16-fma' | 'bf16-dot' | 'fp8-fma' | 'fp8-dot' | 'q8-dot' | 'q4-dot';
export type Lane = 'decode' | 'prefill';
/** What `probe` measures: memory reads; single-precision FMA, BF16 dot and byte dot (VNNI) instructions. */
export type ProbeKind = 'read' | 'fma' | 'bf16' | 'vnni';

/** A 2-D (or 1-D) weight as it lies in a checkpoint. `data` is a view on the mapped file, any alignment. */
export interface TensorSource {
  dtype: Dtype;
  /** Rows and columns; 1-D tensors are [n, 1]. */
  shape: [number, number];
  data: Uint8Array;
  /**
   * Multiplied in, row-major. F8_E4M3: one for each 128x128 block, [ceil(rows/128), ceil(cols/128)], or for 128 columns of
   * each row, [rows, ceil(cols/128)]. Q8: [rows, ceil(cols/64)], Q4: [rows, ceil(cols/32)]. Null without scales.
   */
  scale: { dtype: 'F32' | 'BF16' | 'F16'; data: Uint8Array; shape: [number, number] } | null;
  /** Source row of each output row, or null for the identity. Reorders grouped projections. */
  rows: Int32Array | null;
}

/**
 * A tensor in a quantised format, usable as a TensorSource with `shape` and `rows` added. Q8: an int8 a value. Q4: two
 * values + 8 a byte, even column low, ceil(cols/2) bytes a row. F8_E4M3: a byte a value.
 */
export interface QuantisedSource {
  dtype: 'F8_E4M3' | 'Q8' | 'Q4';
  data: Buffer;
  /** F32 for F8_E4M3, else F16. */
  scale: { dtype: 'F32' | 'F16'; data: Buffer; shape: [number, number] };
}

/**
 * Cores of this machine as the processes of one user share them: who computes holds a lease on each core that it uses.
 * The table lies in a file that they all map; the kernel gives back what a process held that died.
 */
export interface CoreLeases {
  /** Cores that this process may lease. */
  cores(): Int32Array;
  /** Process that holds each of them, 0 for a free one. */
  holders(): Int32Array;
  /** Leases a free core for this thread until `give`; -1 when there is none. Runtimes do it by themselves. */
  tryTake(): number;
  give(core: number): void;
}

export interface CoreLeasesClass {
  /** Bytes of a table's file. */
  readonly tableBytes: number;
  /** Writes an empty table into a file of `tableBytes` that no other process has open yet. */
  format(fd: number): void;
  /** Maps the table; the descriptor may be closed afterwards. `most` cores are used at most; 0: no limit of that kind. */
  new (fd: number, most: number): CoreLeases;
}

export interface RuntimeOptions {
  /** Pool threads including the driver; 1 or more. */
  threads: number;
  isa: 'auto' | IsaPath;
  /** `auto` takes bf16-dot where the CPU has it. Applies to bf16 weights; f32 weights always use f32-fma. */
  bf16Kernels: 'auto' | 'bf16-fma' | 'bf16-dot';
  /** Each call leases the cores that it computes on. Absent or null: it takes what the system gives it. */
  coreLeases?: CoreLeases | null;
}

export interface RuntimeInfo {
  version: string;
  isa: IsaPath;
  bf16Kernels: 'bf16-fma' | 'bf16-dot';
  threads: number;
  cpuFeatures: string[];
}

export interface Runtime {
  readonly info: RuntimeInfo;
  /** Family used for a weight format. */
  kernelFamily(format: WeightFormat): KernelFamily;
  /** Kernel of attention over pools of a format. */
  kvKernel(format: KvFormat): KvKernel;
  /** Bytes held by each kind of native object. */
  memory(): { weights: number; kv: number; states: number; buffers: number };
  /**
   * Work on the prefill lane computes for `ms` milliseconds from now (from 0; Infinity: no limit), without what decode
   * takes in between; then it waits, in the middle of a call, for the next limit. With `alternate`, for decode steps that
   * never leave the threads idle, decode waits until that time is used up, if a prefill call runs, and prefill goes on
   * after it while no decode call waits.
   */
  limitPrefill(ms: number, alternate: boolean): void;
  /** Times that prefill stopped in the middle of a call, decode calls that ran there, and how long it stood still. */
  prefillPauses(): { count: number; decodeJobs: number; ms: number };
}

export interface StepBuffersOptions {
  maxTokens: number;
  hidden: number;
  numExperts: number;
  topK: number;
  rowFormat: RowFormat;
  /** Rows of logits that one step may produce. */
  maxLogitRows: number;
  vocab: number;
}

/**
 * One micro-batch. Sequence i owns rows [rowStart[i], rowStart[i]+rowCount[i]) of the step, consecutive and in order.
 */
export interface BatchSpec {
  tokenIds: Int32Array;
  /** [3][T]: temporal, height and width position of each token (equal for text). */
  positions: Int32Array;
  rowStart: Int32Array;
  rowCount: Int32Array;
  /** Tokens of each sequence that are already in pages and state. */
  contextLen: Int32Array;
  /** Slot of the DeltaNet state, -1 where the model has none. */
  stateSlot: Int32Array;
  /**
   * [S] What the state is when the sequence's first row comes, ignored where stateSlot is -1. -1: what its slot holds.
   * -2: zeros, contextLen must be 0. Else a copy of that slot, which no sequence of the batch writes; several may begin
   * from it.
   */
  initState: Int32Array;
  /**
   * [S] Slot that takes a copy of the state as it is after `snapshotRows` of the sequence's rows, -1 for none; no other
   * sequence uses it, and it is not its own. Ignored where stateSlot is -1. Each DeltaNet layer writes its part.
   */
  snapshotSlot: Int32Array;
  /** [S] 1 to rowCount; in mode 0 contextLen + snapshotRows must be a multiple of 64. Ignored without snapshotSlot. */
  snapshotRows: Int32Array;
  /** 0: chunked delta rule (prompt), contextLen must be a multiple of 64. 1: recurrent (generated or replayed). */
  mode: Int32Array;
  /** [S][maxPages] page ids; entries past a sequence's need are ignored. */
  pageTable: Int32Array;
  maxPages: number;
}

/** Activations of one micro-batch, reused from step to step. */
export interface StepBuffers {
  readonly maxTokens: number;
  /** Rows of the batch that was set last; 0 before the first. */
  readonly numTokens: number;
  /** [T][K] after a gate's forward: expert numbers ascending by probability rank. */
  readonly topkIds: Int32Array;
  /** [T][K] gate weights, f32. */
  readonly topkWeights: Float32Array;
  /** [maxLogitRows][vocab] after LmHead.forward. */
  readonly logits: Float32Array;
  /** Checks the whole batch and copies it. */
  setBatch(spec: BatchSpec): void;
  /** Nobody wants the batch any more: a prefill call on it rejects as soon as it can stop. Holds until the next batch. */
  cancel(): void;
  /** Copy of the hidden rows [T][H], for tests and tools. */
  hidden(): Float32Array;
  setHidden(rows: Float32Array): void;
  /** Copy of the rounded rows [T][H] in the row format, as dispatched. */
  rows(): Buffer;
  /**
   * A ClientFrame{Forward} for the given rows. `rowIndex[r]` is a row of the step, `entryCount[r]` how many of
   * `experts`/`weights` belong to it, ascending by expert.
   */
  packForward(
    header: ForwardHeader,
    rowIndex: Int32Array,
    entryCount: Int32Array,
    experts: Int32Array,
    weights: Float32Array,
  ): Buffer;
  /** Marks all T*K expert rows missing; before a layer's first reply. */
  beginCombine(): void;
  /**
   * Takes the rows of a ServerFrame{ForwardReply} with status OK. `slots[i]` = t*K+k of entry i of the request.
   * For a PARTIAL reply row r is the weighted sum over its entries. Throws on a reply that does not fit.
   */
  unpackReply(reply: Uint8Array, slots: Int32Array, entryCount: Int32Array, mode: CombineMode): void;
  /** Expert rows still missing. */
  missing(): number;
  /**
   * hidden += sum of gate weight x expert row, f32, ascending expert number, + shared expert output if there is one.
   * Throws while rows are missing.
   */
  combine(lane: Lane): Promise<void>;
}

export interface ForwardHeader {
  routerIncarnation: bigint;
  step: number;
  layer: number;
  microBatch: number;
  attempt: number;
  part: number;
  epoch: number;
  combineMode: CombineMode;
  /** 55 bytes of W3C traceparent, or null. */
  traceparent: string | null;
}

export interface ReplyHeader {
  routerIncarnation: bigint;
  step: number;
  layer: number;
  microBatch: number;
  attempt: number;
  part: number;
  /** Value of ReplyStatus in experts.proto. */
  status: number;
  numRows: number;
  computeUs: number;
  queueUs: number;
  notHeld: Int32Array;
  error: string;
}

export interface NormSpec {
  eps: number;
  /** Multiply by (1 + w) instead of w. */
  zeroCentered: boolean;
}

export interface GatedDeltaNetSpec {
  hidden: number;
  numKeyHeads: number;
  numValueHeads: number;
  keyHeadDim: number;
  valueHeadDim: number;
  convKernel: number;
  inputNorm: NormSpec;
  /** Eps of the gated norm on the output. */
  outputEps: number;
  format: WeightFormat;
  /** Index among the DeltaNet layers: the layer of the StatePool. */
  stateLayer: number;
}

export interface GatedDeltaNetWeights {
  inputNorm: TensorSource;
  /** Rows [q heads | k heads | v heads]. */
  inProjQkv: TensorSource;
  inProjZ: TensorSource;
  inProjB: TensorSource;
  inProjA: TensorSource;
  /** [convDim, kernel]. */
  conv: TensorSource;
  dtBias: TensorSource;
  aLog: TensorSource;
  norm: TensorSource;
  outProj: TensorSource;
}

/** hidden += GDN(norm(hidden)), with the states of the batch's slots advanced. */
export interface GatedDeltaNet {
  forward(step: StepBuffers, states: StatePool, lane: Lane): Promise<void>;
}

export interface GatedAttentionSpec {
  hidden: number;
  numHeads: number;
  numKvHeads: number;
  headDim: number;
  /** Rotated leading dimensions of a head. */
  rotaryDim: number;
  /** [rotaryDim/2], computed above (theta, YaRN). */
  invFreq: Float32Array;
  /** Axis (0 T, 1 H, 2 W) of each frequency, [rotaryDim/2]. */
  freqAxis: Int32Array;
  /** Factor on cos and sin (YaRN); 1 without. */
  ropeScale: number;
  /** q_proj rows are [q | gate] per head and the output is multiplied by sigmoid(gate). */
  outputGate: boolean;
  inputNorm: NormSpec;
  /** Norm of q and k per head. */
  qkNorm: NormSpec;
  format: WeightFormat;
  /** Index among the full-attention layers: the layer of the KvPool. */
  kvLayer: number;
}

export interface GatedAttentionWeights {
  inputNorm: TensorSource;
  qProj: TensorSource;
  kProj: TensorSource;
  vProj: TensorSource;
  oProj: TensorSource;
  qNorm: TensorSource;
  kNorm: TensorSource;
}

/** hidden += attention(norm(hidden)), with K and V of the batch's tokens written to their pages. */
export interface GatedAttention {
  forward(step: StepBuffers, kv: KvPool, lane: Lane): Promise<void>;
}

export interface MoeGateSpec {
  hidden: number;
  numExperts: number;
  topK: number;
  /** Divide the chosen probabilities by their sum. */
  normTopk: boolean;
  norm: NormSpec;
  format: WeightFormat;
}

/** Post-attention norm, row rounding, softmax over all experts, top-k: fills topkIds, topkWeights and the rows. */
export interface MoeGate {
  forward(step: StepBuffers, lane: Lane): Promise<void>;
}

export interface SharedExpertSpec {
  hidden: number;
  intermediate: number;
  format: WeightFormat;
}

/** sigmoid(x wsg) * ffn(x) on the rows of the last gate, kept for combine. */
export interface SharedExpert {
  forward(step: StepBuffers, lane: Lane): Promise<void>;
}

export interface ExpertShardOptions {
  numLayers: number;
  numExperts: number;
  hidden: number;
  intermediate: number;
  format: WeightFormat;
  rowFormat: RowFormat;
}

/** One of the experts of a layer to load. */
export interface ExpertLoad {
  expert: number;
  /** [intermediate, hidden]. */
  gate: TensorSource;
  /** [intermediate, hidden]. */
  up: TensorSource;
  /** [hidden, intermediate]. */
  down: TensorSource;
}

/** The experts that one process holds. */
export interface ExpertShard {
  /** Bytes of one packed expert. */
  readonly expertBytes: number;
  /** Packs on a background thread below every lane; resolves when the expert can be served. */
  load(layer: number, expert: number, gate: TensorSource, up: TensorSource, down: TensorSource): Promise<void>;
  /**
   * `load` of several experts of a layer in one job on as many threads as the runtime has, all of low priority; resolves
   * when all of them can be served. When one of them fails others may have been loaded.
   */
  loadAll(layer: number, experts: readonly ExpertLoad[]): Promise<void>;
  /** False if it was not held. Forwards in flight keep what they use. */
  unload(layer: number, expert: number): boolean;
  has(layer: number, expert: number): boolean;
  /** Experts held in a layer, ascending. */
  held(layer: number): Int32Array;
  /**
   * Serves one ClientFrame{Forward} and resolves a ServerFrame{ForwardReply}: OK, NOT_HELD or INVALID. Never
   * rejects for what a peer sent. `queueUs` is copied into the reply.
   */
  forward(frame: Uint8Array, queueUs: number, lane: Lane): Promise<Buffer>;
}

/** hidden = rows of the embedding of the batch's token ids. */
export interface Embedding {
  forward(step: StepBuffers, lane: Lane): Promise<void>;
}

export interface LmHeadSpec {
  hidden: number;
  vocab: number;
  /** Ids at or past this are masked to -inf: padding rows of the checkpoint. */
  tokenizerSize: number;
  norm: NormSpec;
  format: WeightFormat;
}

export interface LmHead {
  /** logits[i] = head(norm(hidden[rowIndex[i]])). */
  forward(step: StepBuffers, rowIndex: Int32Array, lane: Lane): Promise<void>;
}

/** The blocks of one layer of a program; one of the mixers is null. */
export interface ProgramLayer {
  deltaNet: GatedDeltaNet | null;
  attention: GatedAttention | null;
  gate: MoeGate;
  /** Null in models without one. */
  shared: SharedExpert | null;
}

/** What a program is made of: blocks of one runtime, and a shard with as many layers. */
export interface ProgramParts {
  embedding: Embedding;
  layers: readonly ProgramLayer[];
  head: LmHead;
  experts: ExpertShard;
}

/**
 * A model whose experts are in this process, run many layers at a time in one native call. Bit for bit what its blocks,
 * messages to the shard in exact mode and combine give.
 */
export interface ForwardProgram {
  /**
   * Layers [first, last): the embedding goes before layer 0, the head after the last layer unless `logitRows` is
   * empty. Rejects when an expert that the gate chose is not held. `pools.states` and `pools.kv` may be null where no
   * layer needs them.
   */
  forward(
    step: StepBuffers,
    pools: { kv: KvPool | null; states: StatePool | null },
    first: number,
    last: number,
    logitRows: Int32Array,
    lane: Lane,
  ): Promise<void>;
}

export interface SamplerParams {
  temperature: number;
  /** 0 means all. */
  topK: number;
  topP: number;
  minP: number;
  repetitionPenalty: number;
  presencePenalty: number;
  frequencyPenalty: number;
  seed: bigint;
  choice: number;
  biasIds: Int32Array;
  biasValues: Float32Array;
  /** Ids that may not be sampled before minTokens tokens were generated. */
  stopIds: Int32Array;
  minTokens: number;
  /** -1 none, 0 the sampled token's, n its n best alternatives. */
  topLogprobs: number;
}

export interface Sample {
  id: number;
  /** Log-probability under the raw distribution (before penalties and temperature); 0 when not asked for. */
  logprob: number;
  topIds: Int32Array;
  topLogprobs: Float32Array;
}

/** Counts of one sequence's tokens, and its parameters. */
export interface SamplerState {
  accept(id: number): void;
  /** Tokens accepted, including replayed ones. */
  readonly numGenerated: number;
}

export interface SamplerBinding {
  new (vocab: number, params: SamplerParams, promptIds: Int32Array): SamplerState;
}

export interface NativeBinding {
  CoreLeases: CoreLeasesClass;
  Runtime: new (options: RuntimeOptions) => Runtime;
  /** Maps `length` bytes of an open file read-only; the mapping lives as long as the ArrayBuffer. */
  mapFile(fd: number, length: number): ArrayBuffer;
  /**
   * Ceiling of this machine, in bytes or operations per second: `threads` threads read `data` (far larger than the
   * caches, each its own part) or do register arithmetic at once. Blocks the calling thread for about `milliseconds`.
   * Throws naming `kind` where the CPU lacks the instructions.
   */
  probe(kind: ProbeKind, threads: number, milliseconds: number, data: Uint8Array | null): number;
  /** `size` bytes for `probe` to read, in huge pages where the system has them, as weights are; every page is touched. */
  probeMemory(size: number): ArrayBuffer;
  KvPool: new (runtime: Runtime, options: KvPoolOptions) => KvPool;
  StatePool: new (runtime: Runtime, options: StatePoolOptions) => StatePool;
  StepBuffers: new (runtime: Runtime, options: StepBuffersOptions) => StepBuffers;
  Embedding: new (runtime: Runtime, table: TensorSource, format: WeightFormat) => Embedding;
  GatedDeltaNet: new (runtime: Runtime, spec: GatedDeltaNetSpec, weights: GatedDeltaNetWeights) => GatedDeltaNet;
  GatedAttention: new (runtime: Runtime, spec: GatedAttentionSpec, weights: GatedAttentionWeights) => GatedAttention;
  MoeGate: new (runtime: Runtime, spec: MoeGateSpec, weights: { norm: TensorSource; gate: TensorSource }) => MoeGate;
  SharedExpert: new (
    runtime: Runtime,
    spec: SharedExpertSpec,
    weights: { gate: TensorSource; up: TensorSource; down: TensorSource; sharedGate: TensorSource },
  ) => SharedExpert;
  ExpertShard: new (runtime: Runtime, options: ExpertShardOptions) => ExpertShard;
  LmHead: new (runtime: Runtime, spec: LmHeadSpec, weights: { norm: TensorSource; head: TensorSource }) => LmHead;
  ForwardProgram: new (runtime: Runtime, parts: ProgramParts) => ForwardProgram;
  SamplerState: SamplerBinding;
  /**
   * Samples logit row rows[i] with states[i]; does not accept. The random key is (seed, choice, numGenerated).
   * masks[i], unless null, has bit (id % 32) of word (id / 32) set for each id that may be sampled; it is copied.
   */
  sample(
    step: StepBuffers,
    rows: Int32Array,
    states: SamplerState[],
    lane: Lane,
    masks?: readonly (Int32Array | null)[],
  ): Promise<Sample[]>;
  /** Raw log-probability of ids[i] in logit row rows[i], with its n best. */
  logprobs(step: StepBuffers, rows: Int32Array, ids: Int32Array, top: number): Sample[];
  /** Header of a ServerFrame{ForwardReply}; throws on bytes that are not one. */
  parseReplyHeader(frame: Uint8Array): ReplyHeader;
  /** Header of a ClientFrame{Forward} (for queueing and metrics); throws on bytes that are not one. */
  parseForwardHeader(frame: Uint8Array): {
    routerIncarnation: bigint;
    step: number;
    layer: number;
    numRows: number;
    numEntries: number;
    microBatch: number;
    attempt: number;
    part: number;
    epoch: number;
    /** Value of CombineMode in experts.proto. */
    combineMode: number;
    traceparent: string | null;
  };
  /** A reply without rows: BUSY, FAILED or INVALID, for the request with this header. */
  packStatusReply(request: Uint8Array, status: number, error: string): Buffer;
  /**
   * Quantises all (gathered) rows of a tensor. Loading the result gives the bits of loading the source with that format.
   */
  quantise(runtime: Runtime, source: TensorSource, format: QuantisedFormat): Promise<QuantisedSource>;
  /**
   * CRC-32C (Castagnoli) of each part, on a background thread below every lane. The parts must not change or be detached
   * before it resolves; those of resizable buffers are refused.
   */
  crc32c(parts: readonly Uint8Array[]): Promise<Uint32Array>;
}
