import { fail } from '@guildhall/common';
import { loadNative } from '@guildhall/native';
import type {
  CombineMode,
  ExpertShard,
  ForwardHeader,
  NativeBinding,
  Runtime,
  StepBuffers,
  WeightFormat,
} from '@guildhall/native';
import type { ModelConfig } from '../config.ts';
import { rowFormatOf } from '../numerics.ts';
import type { Checkpoint } from '../weights/checkpoint.ts';
import { WeightReader } from '../weights/reader.ts';
import type { DispatchHandle, ExpertDispatch, StepContext } from './expert-dispatch.ts';
import { planMessages, type RowMessage } from './plan.ts';

/** Largest message by default, in bytes. */
export const DEFAULT_MAX_MESSAGE_BYTES = 256 * 1024;
const REPLY_STATUS_OK = 1;
/** Experts that one native job loads: enough for all threads, few enough for progress to be seen. */
const LOAD_BATCH = 32;

export interface LocalExpertsOptions {
  runtime: Runtime;
  checkpoint: Checkpoint;
  config: ModelConfig;
  weights: WeightFormat;
  /** Where experts come from under a quantised format; by default the checkpoint itself. */
  reader?: WeightReader | null;
  mode?: CombineMode;
  maxMessageBytes?: number;
  /** Rows take the way through messages, as to remote workers, although they need not. */
  messages?: boolean;
  /** Told of the experts loaded so far. */
  onProgress?: ((done: number, total: number) => void) | null;
}

/**
 * All experts of a checkpoint in this process. A model runs them in the same native call as its layers; in partial mode,
 * or where that is asked for, rows go through the same messages as those of remote workers. Bits are the same.
 */
export class LocalExperts implements ExpertDispatch {
  readonly shard: ExpertShard;
  readonly direct: ExpertShard | null;
  readonly #native: NativeBinding;
  readonly #config: ModelConfig;
  readonly #mode: CombineMode;
  readonly #rowBytes: number;
  readonly #maxMessageBytes: number;

  private constructor(native: NativeBinding, shard: ExpertShard, options: LocalExpertsOptions) {
    this.shard = shard;
    this.#native = native;
    this.#config = options.config;
    this.#mode = options.mode ?? 'exact';
    this.direct = this.#mode === 'exact' && options.messages !== true ? shard : null;
    this.#rowBytes = options.config.hidden * (rowFormatOf(options.weights) === 'f32' ? 4 : 2);
    this.#maxMessageBytes = options.maxMessageBytes ?? DEFAULT_MAX_MESSAGE_BYTES;
  }

  /** Loads every expert of the checkpoint. @throws checkpoint_invalid, native errors. */
  static async load(options: LocalExpertsOptions): Promise<LocalExperts> {
    const { runtime, checkpoint, config, weights } = options;
    const { numExperts, intermediate } = config.moe;
    const reader = options.reader ?? WeightReader.plain(checkpoint);
    const native = loadNative();
    const shard = new native.ExpertShard(runtime, {
      numLayers: config.numLayers,
      numExperts,
      hidden: config.hidden,
      intermediate,
      format: weights,
      rowFormat: rowFormatOf(weights),
    });
    for (let layer = 0; layer < config.numLayers; layer++) {
      for (let first = 0; first < numExperts; first += LOAD_BATCH) {
        const batch = Math.min(LOAD_BATCH, numExperts - first);
        const numbers = Array.from({ length: batch }, (_, i) => first + i);
        const loads = numbers.map(async (expert) => ({ expert, ...(await reader.expert(layer, expert)) }));
        await shard.loadAll(layer, await Promise.all(loads));
        options.onProgress?.(layer * numExperts + first + batch, config.numLayers * numExperts);
      }
    }
    return new LocalExperts(native, shard, options);
  }

  dispatch(layer: number, step: StepBuffers, numTokens: number, ctx: StepContext): DispatchHandle {
    const messages = planMessages({
      topkIds: step.topkIds,
      topkWeights: step.topkWeights,
      numTokens,
      topK: this.#config.moe.topK,
      rowBytes: this.#rowBytes,
      mode: this.#mode,
      maxMessageBytes: this.#maxMessageBytes,
    });
    step.beginCombine();
    const frames = messages.map((message, part) => {
      const { rowIndex, entryCount, experts, weights } = message;
      return step.packForward(this.#header(layer, part, ctx), rowIndex, entryCount, experts, weights);
    });
    return { done: this.#run(step, messages, frames, ctx) };
  }

  #header(layer: number, part: number, ctx: StepContext): ForwardHeader {
    const { step, microBatch, traceparent } = ctx;
    return {
      routerIncarnation: 0n,
      step,
      layer,
      microBatch,
      attempt: 0,
      part,
      epoch: 0,
      combineMode: this.#mode,
      traceparent,
    };
  }

  async #run(step: StepBuffers, messages: RowMessage[], frames: Buffer[], ctx: StepContext): Promise<void> {
    const replies = await Promise.allSettled(frames.map((frame) => this.shard.forward(frame, 0, ctx.lane)));
    for (const [i, reply] of replies.entries()) {
      if (reply.status === 'rejected') throw reply.reason;
      const header = this.#native.parseReplyHeader(reply.value);
      if (header.status !== REPLY_STATUS_OK) {
        throw fail('internal', `local experts answered status ${header.status}: ${header.error}`);
      }
      const { slots, entryCount } = messages[i] as RowMessage;
      step.unpackReply(reply.value, slots, entryCount, this.#mode);
    }
  }
}
