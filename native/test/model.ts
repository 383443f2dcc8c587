/** A two-layer model over the addon, with its experts in a shard of the same process. */

import { experts as wire } from '@guildhall/proto';

import type {
  CombineMode,
  Embedding,
  ExpertShard,
  ForwardHeader,
  GatedAttention,
  GatedDeltaNet,
  KvFormat,
  KvPool,
  Lane,
  LmHead,
  MoeGate,
  ProgramParts,
  RowFormat,
  Runtime,
  SharedExpert,
  StatePool,
  StepBuffers,
  TensorSource,
  WeightFormat,
} from '../ts/index.ts';
import {
  Random,
  attentionSpec,
  attentionWeights,
  batchOf,
  deltaNetSpec,
  deltaNetWeights,
  expertWeights,
  gateSpec,
  gateWeights,
  headSpec,
  headWeights,
  makeKv,
  makeStates,
  makeStep,
  native,
  sharedSpec,
  sharedWeights,
  sizes,
  tensor,
} from './support.ts';
import type { SequenceSpec } from './support.ts';

export const header: ForwardHeader = {
  routerIncarnation: 77n,
  step: 1,
  layer: 0,
  microBatch: 0,
  attempt: 0,
  part: 0,
  epoch: 3,
  combineMode: 'exact',
  traceparent: null,
};

/** All entries of rows [0, T), as one message. */
export function allEntries(step: StepBuffers, numTokens: number, keep: (expert: number) => boolean = () => true) {
  const rowIndex: number[] = [];
  const entryCount: number[] = [];
  const slots: number[] = [];
  for (let t = 0; t < numTokens; t++) {
    const all = Array.from({ length: sizes.topK }, (_, k) => t * sizes.topK + k);
    const kept = all.filter((slot) => keep(step.topkIds[slot]!)).sort((a, b) => step.topkIds[a]! - step.topkIds[b]!);
    if (kept.length === 0) continue;
    rowIndex.push(t);
    entryCount.push(kept.length);
    slots.push(...kept);
  }
  return {
    rowIndex: Int32Array.from(rowIndex),
    entryCount: Int32Array.from(entryCount),
    slots: Int32Array.from(slots),
    experts: Int32Array.from(slots, (slot) => step.topkIds[slot]!),
    weights: Float32Array.from(slots, (slot) => step.topkWeights[slot]!),
  };
}

/** Sends the rows of a step through shards, each serving some experts, and combines. */
export async function moe(
  step: StepBuffers,
  numTokens: number,
  shards: { shard: ExpertShard; serves: (expert: number) => boolean }[],
  mode: CombineMode,
  lane: Lane,
  layer = 0,
): Promise<void> {
  step.beginCombine();
  for (const { shard, serves } of shards) {
    const e = allEntries(step, numTokens, serves);
    if (e.slots.length === 0) continue;
    const frame = step.packForward(
      { ...header, combineMode: mode, layer },
      e.rowIndex,
      e.entryCount,
      e.experts,
      e.weights,
    );
    const reply = await shard.forward(frame, 0, lane);
    const { status, error } = native.parseReplyHeader(reply);
    if (status !== wire.ReplyStatus.REPLY_STATUS_OK) throw new Error(`status ${status}: ${error}`);
    step.unpackReply(reply, e.slots, e.entryCount, mode);
  }
  await step.combine(lane);
}

/** Layers of `programParts`. */
export const PROGRAM_LAYERS = 2;

/** Blocks of a DeltaNet layer and an attention layer, with all experts. */
export async function programParts(runtime: Runtime): Promise<ProgramParts> {
  const random = new Random(4);
  const { hidden, vocab, numExperts, intermediate } = sizes;
  const shardOptions = { numLayers: PROGRAM_LAYERS, numExperts, hidden, intermediate } as const;
  const experts = new native.ExpertShard(runtime, { ...shardOptions, format: 'f32', rowFormat: 'f32' });
  for (let layer = 0; layer < PROGRAM_LAYERS; layer++) {
    await experts.loadAll(
      layer,
      Array.from({ length: numExperts }, (_, expert) => ({ expert, ...expertWeights(random) })),
    );
  }
  return {
    embedding: new native.Embedding(runtime, tensor(random.floats(vocab * hidden), [vocab, hidden]), 'f32'),
    layers: [
      {
        deltaNet: new native.GatedDeltaNet(runtime, deltaNetSpec('f32'), deltaNetWeights(random)),
        attention: null,
        gate: new native.MoeGate(runtime, gateSpec('f32'), gateWeights(random)),
        shared: null,
      },
      {
        deltaNet: null,
        attention: new native.GatedAttention(runtime, attentionSpec('f32'), attentionWeights(random)),
        gate: new native.MoeGate(runtime, gateSpec('f32'), gateWeights(random)),
        shared: new native.SharedExpert(runtime, sharedSpec('f32'), sharedWeights(random)),
      },
    ],
    head: new native.LmHead(runtime, headSpec('f32'), headWeights(random)),
    experts,
  };
}

export class LittleModel {
  readonly runtime: Runtime;
  readonly states: StatePool;
  readonly kv: KvPool;
  readonly shard: ExpertShard;
  readonly #step: StepBuffers;
  readonly #embedding: Embedding;
  readonly #deltaNet: GatedDeltaNet;
  readonly #attention: GatedAttention;
  readonly #gate: MoeGate;
  readonly #shared: SharedExpert;
  readonly #head: LmHead;

  private constructor(runtime: Runtime, format: WeightFormat, kvFormat: KvFormat) {
    const random = new Random(99);
    const dtype = format === 'f32' ? 'F32' : 'BF16';
    const rowFormat: RowFormat = format === 'f32' ? 'f32' : 'bf16';
    const { hidden, vocab, numExperts, intermediate } = sizes;
    this.runtime = runtime;
    this.states = makeStates(runtime);
    this.kv = makeKv(runtime, kvFormat);
    this.#step = makeStep(runtime, rowFormat);
    this.#embedding = new native.Embedding(
      runtime,
      tensor(random.floats(vocab * hidden), [vocab, hidden], dtype),
      format,
    );
    this.#deltaNet = new native.GatedDeltaNet(runtime, deltaNetSpec(format), deltaNetWeights(random, dtype));
    this.#attention = new native.GatedAttention(runtime, attentionSpec(format), attentionWeights(random, dtype));
    this.#gate = new native.MoeGate(runtime, gateSpec(format), gateWeights(random, dtype));
    this.#shared = new native.SharedExpert(runtime, sharedSpec(format), sharedWeights(random, dtype));
    this.#head = new native.LmHead(runtime, headSpec(format), headWeights(random, dtype));
    this.shard = new native.ExpertShard(runtime, { numLayers: 1, numExperts, hidden, intermediate, format, rowFormat });
  }

  static async create(
    runtime: Runtime,
    format: WeightFormat,
    kvFormat: KvFormat = format === 'f32' ? 'f32' : 'bf16',
  ): Promise<LittleModel> {
    const model = new LittleModel(runtime, format, kvFormat);
    const experts = LittleModel.experts(format);
    await Promise.all(experts.map((e, i) => model.shard.load(0, i, e.gate, e.up, e.down)));
    return model;
  }

  static experts(format: WeightFormat): { gate: TensorSource; up: TensorSource; down: TensorSource }[] {
    const random = new Random(7);
    return Array.from({ length: sizes.numExperts }, () => expertWeights(random, format === 'bf16' ? 'BF16' : 'F32'));
  }

  /** One forward; returns the hidden rows and the logits of each sequence's last row. */
  async forward(
    sequences: SequenceSpec[],
    lane: Lane = 'prefill',
  ): Promise<{ hidden: Float32Array; logits: Float32Array }> {
    const step = this.#step;
    const batch = batchOf(sequences);
    const numTokens = batch.tokenIds.length;
    step.setBatch(batch);
    await this.#embedding.forward(step, lane);
    await this.#deltaNet.forward(step, this.states, lane);
    await this.#attention.forward(step, this.kv, lane);
    await this.#gate.forward(step, lane);
    await this.#shared.forward(step, lane);
    await moe(step, numTokens, [{ shard: this.shard, serves: () => true }], 'exact', lane);
    const last = batch.rowStart.map((start, i) => start + batch.rowCount[i]! - 1);
    await this.#head.forward(step, last, lane);
    return { hidden: step.hidden(), logits: step.logits.slice(0, last.length * sizes.vocab) };
  }
}
