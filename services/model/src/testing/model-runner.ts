import {
  loadNative,
  type CombineMode,
  type KvPool,
  type StatePool,
  type StepBuffers,
  type WeightFormat,
} from '@guildhall/native';
import type { ExpertDispatch, StepContext } from '../moe/expert-dispatch.ts';
import { LocalExperts } from '../moe/local-experts.ts';
import { TextModel } from '../models/text-model.ts';
import { Checkpoint, type ReadRecord } from '../weights/checkpoint.ts';
import { WeightReader } from '../weights/reader.ts';

const PAGE_TOKENS = 64;
const MAX_TOKENS = 512;
const MAX_SEQUENCES = 8;

/** Ids of a sequence and how much of it has been computed. */
interface Sequence {
  ids: readonly number[];
  done: number;
}

export interface LoadForTestOptions {
  weights?: WeightFormat;
  threads?: number;
  mode?: CombineMode;
  maxMessageBytes?: number;
  /** Rows go through messages, layer by layer. */
  messages?: boolean;
  onRead?: (read: ReadRecord) => void;
  /** Where quantised weights are kept; by default nowhere. */
  weightsCache?: string;
  /** Told what the cache warns of. */
  onWarning?: (message: string) => void;
}

/** A context that ends nothing. */
export function stepContext(step: number, changes: Partial<StepContext> = {}): StepContext {
  return { step, microBatch: 0, lane: 'prefill', signal: null, deadlineMs: null, traceparent: null, ...changes };
}

/** A whole model in this process with room for a few short sequences. */
export class ModelRunner {
  readonly model: TextModel;
  readonly experts: LocalExperts;
  readonly reader: WeightReader;
  readonly buffers: StepBuffers;
  readonly #kv: KvPool;
  readonly #states: StatePool | null;
  #step = 0;

  private constructor(model: TextModel, experts: LocalExperts, reader: WeightReader) {
    this.reader = reader;
    this.model = model;
    this.experts = experts;
    this.buffers = model.createStepBuffers({ maxTokens: MAX_TOKENS, maxLogitRows: MAX_TOKENS });
    this.#kv = model.createKvPool((MAX_SEQUENCES * MAX_TOKENS) / PAGE_TOKENS);
    this.#states = model.createStatePool(MAX_SEQUENCES);
  }

  static async load(dir: string, options: LoadForTestOptions = {}): Promise<ModelRunner> {
    const native = loadNative();
    const runtime = new native.Runtime({ threads: options.threads ?? 1, isa: 'auto', bf16Kernels: 'auto' });
    const checkpoint = Checkpoint.open(dir, {
      mapFile: (fd, length) => native.mapFile(fd, length),
      onRead: options.onRead ?? null,
    });
    const { config } = checkpoint;
    const weights = options.weights ?? 'f32';
    const reader = WeightReader.open({
      checkpoint,
      format: weights,
      cache: options.weightsCache ?? 'off',
      quantise: (source, format) => native.quantise(runtime, source, format),
      mapFile: (fd, length) => native.mapFile(fd, length),
      env: {},
      onWarning: options.onWarning ?? (() => undefined),
    });
    const { mode = 'exact', maxMessageBytes = 256 * 1024, messages = false } = options;
    const parts = { runtime, checkpoint, config, weights, reader };
    const model = await TextModel.load(parts);
    const experts = await LocalExperts.load({ ...parts, mode, maxMessageBytes, messages });
    await reader.flush();
    return new ModelRunner(model, experts, reader);
  }

  /**
   * Logits of the last token of each sequence, all computed in the same steps from an empty context.
   * @param cuts tokens of each step, the same for all sequences; whatever is left makes a last step.
   */
  async lastLogits(
    sequences: readonly (readonly number[])[],
    cuts: readonly number[] = [],
    dispatch: ExpertDispatch = this.experts,
  ): Promise<Float32Array[]> {
    const states: Sequence[] = sequences.map((ids) => ({ ids, done: 0 }));
    for (const slot of states.keys()) this.#states?.reset(slot);
    const logits: Float32Array[] = [];
    for (const cut of [...cuts, Infinity]) {
      const counts = states.map(({ ids, done }) => Math.min(cut, ids.length - done));
      if (counts.every((count) => count === 0)) break;
      await this.step(states, counts, 0, { dispatch });
      let row = -1;
      for (const [i, sequence] of states.entries()) {
        const count = counts[i] as number;
        row += count;
        sequence.done += count;
        if (count > 0 && sequence.done === sequence.ids.length) logits[i] = this.#logitRow(row);
      }
    }
    return logits;
  }

  /** Logits after each of `ids`, fed one by one to a sequence whose first `prompt` ids are computed at once. */
  async decodeLogits(ids: readonly number[], prompt: number): Promise<Float32Array[]> {
    this.#states?.reset(0);
    const sequence: Sequence = { ids, done: 0 };
    const logits: Float32Array[] = [];
    while (sequence.done < ids.length) {
      const count = sequence.done === 0 ? prompt : 1;
      await this.step([sequence], [count], sequence.done === 0 ? 0 : 1);
      sequence.done += count;
      logits.push(this.#logitRow(count - 1));
    }
    return logits;
  }

  /** One forward of the next `counts` tokens of each sequence, with logits of every row. */
  async step(
    sequences: readonly Sequence[],
    counts: readonly number[],
    mode: number,
    changes: {
      dispatch?: ExpertDispatch;
      signal?: AbortSignal;
      yieldPoint?: (layer: number) => Promise<void> | null;
    } = {},
  ): Promise<void> {
    const numTokens = this.#setBatch(sequences, counts, mode);
    const ctx = stepContext(this.#step++, { signal: changes.signal ?? null });
    const pools = { kv: this.#kv, states: this.#states };
    await this.model.forward(this.buffers, pools, changes.dispatch ?? this.experts, {
      lane: 'prefill',
      logitRows: Int32Array.from({ length: numTokens }, (_, row) => row),
      yieldPoint: changes.yieldPoint ?? null,
      ctx,
    });
  }

  #setBatch(sequences: readonly Sequence[], counts: readonly number[], mode: number): number {
    const active = sequences
      .map((sequence, slot) => ({ ...sequence, slot, count: counts[slot] as number }))
      .filter(({ count }) => count > 0);
    const tokenIds = active.flatMap(({ ids, done, count }) => ids.slice(done, done + count));
    const positions = active.flatMap(({ done, count }) => Array.from({ length: count }, (_, i) => done + i));
    let row = 0;
    const rowStart = active.map(({ count }) => (row += count) - count);
    const maxPages = MAX_TOKENS / PAGE_TOKENS;
    this.buffers.setBatch({
      tokenIds: Int32Array.from(tokenIds),
      positions: Int32Array.from([...positions, ...positions, ...positions]),
      rowStart: Int32Array.from(rowStart),
      rowCount: Int32Array.from(active, ({ count }) => count),
      contextLen: Int32Array.from(active, ({ done }) => done),
      stateSlot: Int32Array.from(active, ({ slot }) => (this.#states === null ? -1 : slot)),
      initState: Int32Array.from(active, () => -1),
      snapshotSlot: Int32Array.from(active, () => -1),
      snapshotRows: new Int32Array(active.length),
      mode: Int32Array.from(active, () => mode),
      pageTable: Int32Array.from(
        active.flatMap(({ slot }) => Array.from({ length: maxPages }, (_, page) => slot * maxPages + page)),
      ),
      maxPages,
    });
    return tokenIds.length;
  }

  #logitRow(row: number): Float32Array {
    const { vocab } = this.model.config;
    return this.buffers.logits.slice(row * vocab, (row + 1) * vocab);
  }
}
