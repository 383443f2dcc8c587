import { setImmediate } from 'node:timers/promises';
import { fail } from '@guildhall/common';
import { isNativeError, loadNative } from '@guildhall/native';
import type {
  CombineMode,
  Embedding,
  ExpertShard,
  ForwardProgram,
  KvFormat,
  KvPool,
  Lane,
  LmHead,
  RowFormat,
  Runtime,
  StatePool,
  StepBuffers,
  WeightFormat,
} from '@guildhall/native';
import { numFullLayers, numLinearLayers, type ModelConfig } from '../config.ts';
import type { BuildContext } from '../layers/build-context.ts';
import { buildEmbedding } from '../layers/embedding.ts';
import { buildLmHead } from '../layers/lm-head.ts';
import type { ExpertDispatch, StepContext } from '../moe/expert-dispatch.ts';
import { type KvDtype, kvFormatOf, numericsId, rowFormatOf } from '../numerics.ts';
import type { Checkpoint } from '../weights/checkpoint.ts';
import { WeightReader } from '../weights/reader.ts';
import type { DecoderLayer, ModelPools } from './definition.ts';
import { definitionOf } from './registry.ts';
import { sampledVocabulary } from './sampled-vocabulary.ts';

export interface LoadOptions {
  runtime: Runtime;
  checkpoint: Checkpoint;
  config: ModelConfig;
  weights: WeightFormat;
  /** Where matrices come from under a quantised format; by default the checkpoint itself. */
  reader?: WeightReader | null;
  /** Format of KV pages; auto without it. */
  kvDtype?: KvDtype;
  /** Told after the embedding, each layer and the head. */
  onProgress?: ((done: number, total: number) => void) | null;
}

export interface ForwardOptions {
  lane: Lane;
  /** Rows of the step whose logits are wanted; the head is skipped without any. */
  logitRows: Int32Array;
  /**
   * Called after each layer; what it returns is awaited, so that other work can go first. Without it local experts
   * and layers run in one native call.
   */
  yieldPoint?: ((layer: number) => Promise<void> | null) | null;
  ctx: StepContext;
}

/** The dense part of a model: everything but the routed experts. */
export class TextModel {
  readonly config: ModelConfig;
  readonly weights: WeightFormat;
  readonly rowFormat: RowFormat;
  readonly kvFormat: KvFormat;
  /** Ids from here on are padding: their logits are -inf. */
  readonly vocabularySize: number;
  readonly #context: BuildContext;
  readonly #embedding: Embedding;
  readonly #layers: readonly DecoderLayer[];
  readonly #head: LmHead;
  /** Programs over the experts of this process that were used so far. */
  readonly #programs = new WeakMap<ExpertShard, ForwardProgram>();

  private constructor(
    context: BuildContext,
    kvFormat: KvFormat,
    embedding: Embedding,
    layers: readonly DecoderLayer[],
  ) {
    this.config = context.config;
    this.weights = context.format;
    this.rowFormat = rowFormatOf(context.format);
    this.kvFormat = kvFormat;
    this.vocabularySize = sampledVocabulary(context.weights.checkpoint.dir, context.config);
    this.#context = context;
    this.#embedding = embedding;
    this.#layers = layers;
    this.#head = buildLmHead(context, this.vocabularySize);
  }

  /**
   * Reads and packs the dense weights, layer by layer. The event loop gets its turn between layers.
   * @throws checkpoint_invalid, native errors.
   */
  static async load(options: LoadOptions): Promise<TextModel> {
    const { runtime, checkpoint, config, kvDtype = 'auto', onProgress } = options;
    const weights = options.reader ?? WeightReader.plain(checkpoint);
    const context: BuildContext = { native: loadNative(), runtime, weights, config, format: options.weights };
    const definition = definitionOf(config.family);
    const total = config.numLayers + 2;
    const embedding = buildEmbedding(context);
    onProgress?.(1, total);
    const layers: DecoderLayer[] = [];
    for (let i = 0; i < config.numLayers; i++) {
      await setImmediate();
      await weights.prepareLayer(i);
      layers.push(definition.buildLayer(context, i));
      onProgress?.(i + 2, total);
    }
    await setImmediate();
    await weights.prepareHead();
    const model = new TextModel(context, kvFormatOf(options.weights, kvDtype), embedding, layers);
    onProgress?.(total, total);
    return model;
  }

  /** Numerics class of this model with a combine mode. */
  numericsId(combine: CombineMode): string {
    const { weights, rowFormat, kvFormat } = this;
    const kernelFamily = this.#context.runtime.kernelFamily(weights);
    const kvKernel = this.#context.runtime.kvKernel(kvFormat);
    return numericsId({ kernelFamily, weights, rowFormat, kvFormat, kvKernel, combine });
  }

  /** Pages of 64 tokens for the full-attention layers. */
  createKvPool(numPages: number): KvPool {
    const { native, runtime, config } = this.#context;
    const { numKvHeads, headDim } = config.attention;
    // A pool has at least one layer, also where no layer uses it.
    const numLayers = Math.max(numFullLayers(config), 1);
    return new native.KvPool(runtime, { numPages, numLayers, numKvHeads, headDim, format: this.kvFormat });
  }

  /** States for the DeltaNet layers; null in models without them. */
  createStatePool(numSlots: number): StatePool | null {
    const { native, runtime, config } = this.#context;
    if (config.linear === null) return null;
    const { numValueHeads, keyHeadDim, valueHeadDim, convDim, convKernel } = config.linear;
    const numLayers = numLinearLayers(config);
    return new native.StatePool(runtime, { numSlots, numLayers, numValueHeads, keyHeadDim, valueHeadDim, convDim, convKernel });
  }

  /** Activations of one micro-batch. */
  createStepBuffers(limits: { maxTokens: number; maxLogitRows: number }): StepBuffers {
    const { native, runtime, config } = this.#context;
    const { hidden, vocab, moe } = config;
    const { numExperts, topK } = moe;
    return new native.StepBuffers(runtime, { ...limits, hidden, vocab, numExperts, topK, rowFormat: this.rowFormat });
  }

  /**
   * Runs the batch that was set in `step` through all layers. Afterwards `step.logits` holds the wanted rows, and the
   * pages and states of the batch's sequences hold its tokens. While expert rows are away the shared expert runs.
   * Experts of this process run with the layers: in one native call, or layer by layer with a yield point.
   * @throws cancelled once `ctx.signal` is aborted, between two native calls or, in the prefill lane, inside of one;
   * whatever the dispatch rejects with.
   */
  async forward(step: StepBuffers, pools: ModelPools, dispatch: ExpertDispatch, options: ForwardOptions): Promise<void> {
    const { signal } = options.ctx;
    const cancel = (): void => step.cancel();
    signal?.addEventListener('abort', cancel);
    try {
      const direct = dispatch.direct ?? null;
      if (direct === null) await this.#forwardByMessages(step, pools, dispatch, options);
      else await this.#forwardDirect(step, pools, this.#programFor(direct), options);
    } catch (err) {
      if (isNativeError(err) && signal?.aborted) throw fail('cancelled', 'the step was cancelled', { cause: err });
      throw err;
    } finally {
      signal?.removeEventListener('abort', cancel);
    }
  }

  async #forwardDirect(step: StepBuffers, pools: ModelPools, program: ForwardProgram, options: ForwardOptions): Promise<void> {
    const { lane, logitRows, yieldPoint, ctx } = options;
    const layers = this.#layers.length;
    const slice = yieldPoint ? 1 : layers;
    for (let first = 0; first < layers; first += slice) {
      throwIfCancelled(ctx, first);
      await program.forward(step, pools, first, first + slice, logitRows, lane);
      const pause = yieldPoint?.(first) ?? null;
      if (pause !== null) await pause;
    }
  }

  #programFor(experts: ExpertShard): ForwardProgram {
    const known = this.#programs.get(experts);
    if (known !== undefined) return known;
    const { native, runtime } = this.#context;
    const parts = { embedding: this.#embedding, layers: this.#layers, head: this.#head, experts };
    const program = new native.ForwardProgram(runtime, parts);
    this.#programs.set(experts, program);
    return program;
  }

  async #forwardByMessages(step: StepBuffers, pools: ModelPools, dispatch: ExpertDispatch, options: ForwardOptions): Promise<void> {
    const { lane, logitRows, yieldPoint, ctx } = options;
    await this.#embedding.forward(step, lane);
    for (const [index, layer] of this.#layers.entries()) {
      throwIfCancelled(ctx, index);
      await mix(layer, step, pools, lane);
      await layer.gate.forward(step, lane);
      const away = dispatch.dispatch(index, step, step.numTokens, ctx);
      await bothDone(away.done, layer.shared?.forward(step, lane));
      await step.combine(lane);
      const pause = yieldPoint?.(index) ?? null;
      if (pause !== null) await pause;
    }
    if (logitRows.length > 0) await this.#head.forward(step, logitRows, lane);
  }
}

function throwIfCancelled(ctx: StepContext, layer: number): void {
  if (ctx.signal?.aborted) throw fail('cancelled', `the step was cancelled before layer ${layer}`);
}

/** hidden += mixer(norm(hidden)). */
async function mix(layer: DecoderLayer, step: StepBuffers, pools: ModelPools, lane: Lane): Promise<void> {
  if (layer.attention !== null) return layer.attention.forward(step, pools.kv, lane);
  if (layer.deltaNet === null || pools.states === null) throw fail('internal', 'a layer without a mixer or its pool');
  return layer.deltaNet.forward(step, pools.states, lane);
}

/** Waits until neither uses the step any more, then throws what the first of them threw. */
async function bothDone(first: Promise<void>, second: Promise<void> | undefined): Promise<void> {
  for (const result of await Promise.allSettled([first, second])) {
    if (result.status === 'rejected') throw result.reason;
  }
}
