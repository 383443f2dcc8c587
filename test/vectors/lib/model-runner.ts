import { Checkpoint, LocalExperts, TextModel } from '@guildhall/model';
import type { ExpertDispatch, ModelPools } from '@guildhall/model';
import { loadNative } from '@guildhall/native';
import type { BatchSpec, Lane, Runtime, RuntimeOptions, StepBuffers, WeightFormat } from '@guildhall/native';
import { checkpointDir } from './paths.ts';

const PAGE = 64;
const MAX_TOKENS = 640;
const MAX_ROWS = MAX_TOKENS;
const NUM_PAGES = 160;
const NUM_SLOTS = 40;

/** 0: chunked delta rule; 1: recurrent. */
export type Mode = 0 | 1;

/** A sequence with its pages and state slot. */
export interface Sequence {
  pages: number[];
  slot: number;
  length: number;
}

/** Part of a step: more tokens of one sequence. */
export interface StepPart {
  sequence: Sequence;
  tokens: ArrayLike<number>;
  mode: Mode;
  /** Positions within `tokens` whose logits are wanted. */
  want: readonly number[];
}

export interface RunnerOptions extends Partial<RuntimeOptions> {
  weights: WeightFormat;
  /** Directory instead of the named checkpoint's. */
  dir?: string;
  /** Experts instead of all in this process. */
  experts?: (parts: { runtime: Runtime; checkpoint: Checkpoint; weights: WeightFormat }) => Promise<ExpertDispatch>;
}

/** A model with pools, which runs steps and hands out logits. Pages come in an order that is not the natural one. */
export class ModelRunner {
  readonly model: TextModel;
  readonly runtime: Runtime;
  readonly #dispatch: ExpertDispatch;
  readonly #pools: ModelPools;
  readonly #step: StepBuffers;
  readonly #freePages: number[];
  readonly #freeSlots: number[];
  #count = 0;

  private constructor(model: TextModel, runtime: Runtime, dispatch: ExpertDispatch) {
    this.model = model;
    this.runtime = runtime;
    this.#dispatch = dispatch;
    this.#pools = { kv: model.createKvPool(NUM_PAGES), states: model.createStatePool(NUM_SLOTS) };
    this.#step = model.createStepBuffers({ maxTokens: MAX_TOKENS, maxLogitRows: MAX_ROWS });
    // 7 and 160 have no common divisor: every page once, neighbours far apart.
    this.#freePages = Array.from({ length: NUM_PAGES }, (_, i) => (i * 7) % NUM_PAGES);
    this.#freeSlots = Array.from({ length: NUM_SLOTS }, (_, i) => i);
  }

  static async open(name: string, options: RunnerOptions): Promise<ModelRunner> {
    const { weights, threads = 2, isa = 'auto', bf16Kernels = 'auto' } = options;
    const native = loadNative();
    const runtime = new native.Runtime({ threads, isa, bf16Kernels });
    const checkpoint = Checkpoint.open(options.dir ?? checkpointDir(name), {
      mapFile: (fd, length) => native.mapFile(fd, length),
    });
    const model = await TextModel.load({ runtime, checkpoint, config: checkpoint.config, weights });
    const dispatch = options.experts
      ? await options.experts({ runtime, checkpoint, weights })
      : await LocalExperts.load({ runtime, checkpoint, config: checkpoint.config, weights });
    return new ModelRunner(model, runtime, dispatch);
  }

  /** A sequence with room for `tokens`. Without `pages` it takes free ones. */
  begin(tokens: number): Sequence {
    const pages = this.#freePages.splice(0, Math.ceil(tokens / PAGE));
    const slot = this.#freeSlots.shift();
    if (slot === undefined || pages.length * PAGE < tokens) throw new Error('the runner has no room left');
    this.#pools.states?.reset(slot);
    return { pages, slot, length: 0 };
  }

  /** Gives pages and slot back, to be handed out last. */
  end(sequence: Sequence): void {
    this.#freePages.push(...sequence.pages.splice(0));
    this.#freeSlots.push(sequence.slot);
  }

  /** Copies one sequence's state over another's. */
  copyState(from: Sequence, to: Sequence): void {
    this.#pools.states?.copy(from.slot, to.slot);
  }

  /** Bytes of the state of a sequence; empty in models without DeltaNet layers. */
  async stateBytes(sequence: Sequence): Promise<Buffer> {
    return (await this.#pools.states?.exportState(sequence.slot))?.data ?? Buffer.alloc(0);
  }

  /** Runs one step over several sequences; returns the wanted rows of each part, copied. */
  async step(parts: readonly StepPart[], lane: Lane = 'prefill'): Promise<Float32Array[][]> {
    this.#step.setBatch(this.#batchOf(parts));
    const wanted: number[] = [];
    let row = 0;
    for (const part of parts) {
      wanted.push(...part.want.map((position) => row + position));
      row += part.tokens.length;
    }
    const ctx = { step: this.#count++, microBatch: 0, lane, signal: null, deadlineMs: null, traceparent: null };
    const options = { lane, logitRows: Int32Array.from(wanted), ctx };
    await this.model.forward(this.#step, this.#pools, this.#dispatch, options);
    const { vocab } = this.model.config;
    let next = 0;
    return parts.map((part) => {
      part.sequence.length += part.tokens.length;
      return part.want.map(() => this.#step.logits.slice(next * vocab, ++next * vocab));
    });
  }

  /** A prompt in pieces that end at `cuts`, multiples of 64; logits at `positions` of the whole. */
  async prefill(
    sequence: Sequence,
    ids: Int32Array,
    positions: Int32Array,
    cuts: readonly number[] = [],
  ): Promise<Float32Array[]> {
    const rows: Float32Array[] = [];
    const ends = [...cuts, ids.length];
    for (const end of ends) {
      const start = sequence.length;
      const want = [...positions].filter((p) => p >= start && p < end).map((p) => p - start);
      const [part] = await this.step([{ sequence, tokens: ids.slice(start, end), mode: 0, want }]);
      rows.push(...(part as Float32Array[]));
    }
    return rows;
  }

  #batchOf(parts: readonly StepPart[]): BatchSpec {
    const counts = parts.map((part) => part.tokens.length);
    const tokens = counts.reduce((a, b) => a + b, 0);
    const maxPages = Math.max(...parts.map((part) => part.sequence.pages.length));
    const positions = parts.flatMap(({ sequence, tokens: own }) => Array.from(own, (_, i) => sequence.length + i));
    const pageTable = new Int32Array(parts.length * maxPages).fill(-1);
    for (const [i, part] of parts.entries()) pageTable.set(part.sequence.pages, i * maxPages);
    let row = 0;
    return {
      tokenIds: Int32Array.from(parts.flatMap((part) => Array.from(part.tokens))),
      positions: Int32Array.from({ length: 3 * tokens }, (_, i) => positions[i % tokens] as number),
      rowStart: Int32Array.from(counts, (count) => (row += count) - count),
      rowCount: Int32Array.from(counts),
      contextLen: Int32Array.from(parts, (part) => part.sequence.length),
      stateSlot: Int32Array.from(parts, (part) => (this.#pools.states === null ? -1 : part.sequence.slot)),
      initState: Int32Array.from(parts, () => -1),
      snapshotSlot: Int32Array.from(parts, () => -1),
      snapshotRows: new Int32Array(parts.length),
      mode: Int32Array.from(parts, (part) => part.mode),
      pageTable,
      maxPages,
    };
  }
}
