import assert from 'node:assert/strict';
import { expertSources, planMessages, rowFormatOf } from '@guildhall/model';
import type {
  Checkpoint,
  DispatchHandle,
  ExpertDispatch,
  ModelConfig,
  RowMessage,
  StepContext,
} from '@guildhall/model';
import { loadNative } from '@guildhall/native';
import type { CombineMode, ExpertShard, Runtime, StepBuffers, WeightFormat } from '@guildhall/native';
import { randomNumbers, shuffled } from './random.ts';

export interface ShardedOptions {
  runtime: Runtime;
  checkpoint: Checkpoint;
  weights: WeightFormat;
  shards: number;
  /** Experts that are held twice, as a share of all; each of their rows goes to one of the two holders by chance. */
  replicas: number;
  seed: number;
  mode: CombineMode;
  maxMessageBytes: number;
}

/**
 * Experts spread over several shards by a random placement. Rows travel in the messages that remote workers get, and
 * replies are unpacked in a random order.
 */
export class ShardedExperts implements ExpertDispatch {
  readonly #options: ShardedOptions;
  readonly #config: ModelConfig;
  readonly #shards: ExpertShard[];
  /** [layer][expert] numbers of its holders. */
  readonly #holders: number[][][];
  readonly #random: () => number;

  private constructor(options: ShardedOptions, shards: ExpertShard[], holders: number[][][], random: () => number) {
    this.#options = options;
    this.#config = options.checkpoint.config;
    this.#shards = shards;
    this.#holders = holders;
    this.#random = random;
  }

  static async load(options: ShardedOptions): Promise<ShardedExperts> {
    const { runtime, checkpoint, weights, seed } = options;
    const { numLayers, hidden, moe } = checkpoint.config;
    const random = randomNumbers(seed);
    const shape = { numLayers, numExperts: moe.numExperts, hidden, intermediate: moe.intermediate };
    const formats = { format: weights, rowFormat: rowFormatOf(weights) };
    const shards = Array.from({ length: options.shards }, () => {
      return new (loadNative().ExpertShard)(runtime, { ...shape, ...formats });
    });
    const holders: number[][][] = [];
    for (let layer = 0; layer < numLayers; layer++) {
      holders.push([]);
      for (let expert = 0; expert < moe.numExperts; expert++) {
        const order = shuffled([...shards.keys()], random);
        const chosen = order.slice(0, random() < options.replicas ? 2 : 1);
        holders[layer]?.push(chosen);
        const { gate, up, down } = expertSources(checkpoint, checkpoint.config, layer, expert);
        for (const shard of chosen) await shards[shard]?.load(layer, expert, gate, up, down);
      }
    }
    return new ShardedExperts(options, shards, holders, random);
  }

  dispatch(layer: number, step: StepBuffers, numTokens: number, ctx: StepContext): DispatchHandle {
    const { mode, maxMessageBytes, weights } = this.#options;
    const { topK } = this.#config.moe;
    const target = Array.from(step.topkIds.subarray(0, numTokens * topK), (expert) => this.#holderOf(layer, expert));
    const rowBytes = this.#config.hidden * (rowFormatOf(weights) === 'f32' ? 4 : 2);
    const { topkIds, topkWeights } = step;
    step.beginCombine();
    const sent = this.#shards.flatMap((shard, number) => {
      const include = (_expert: number, slot: number): boolean => target[slot] === number;
      const plan = { topkIds, topkWeights, numTokens, topK, rowBytes, mode, maxMessageBytes, include };
      return planMessages(plan).map((message, part) => {
        return { message, reply: shard.forward(this.#pack(step, layer, part, message, ctx), 0, ctx.lane) };
      });
    });
    return { done: this.#unpack(step, sent) };
  }

  #holderOf(layer: number, expert: number): number {
    const holders = this.#holders[layer]?.[expert] as number[];
    return holders[Math.floor(this.#random() * holders.length)] as number;
  }

  #pack(step: StepBuffers, layer: number, part: number, message: RowMessage, ctx: StepContext): Buffer {
    const header = {
      routerIncarnation: 9n,
      step: ctx.step,
      layer,
      microBatch: ctx.microBatch,
      attempt: 0,
      part,
      epoch: 3,
      combineMode: this.#options.mode,
      traceparent: null,
    };
    return step.packForward(header, message.rowIndex, message.entryCount, message.experts, message.weights);
  }

  async #unpack(step: StepBuffers, sent: { message: RowMessage; reply: Promise<Buffer> }[]): Promise<void> {
    const replies = await Promise.all(sent.map(({ reply }) => reply));
    for (const i of shuffled([...sent.keys()], this.#random)) {
      const { slots, entryCount } = (sent[i] as { message: RowMessage }).message;
      step.unpackReply(replies[i] as Buffer, slots, entryCount, this.#options.mode);
    }
    assert.equal(step.missing(), 0, 'every row has come back');
  }
}
