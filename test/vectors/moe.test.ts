import assert from 'node:assert/strict';
import { test } from 'node:test';
import { planMessages } from '@guildhall/model';
import { loadNative } from '@guildhall/native';
import type { ExpertShard, Runtime, StepBuffers } from '@guildhall/native';
import { blockCases, singleSequence, type BlockCase } from './lib/block-vectors.ts';
import { assertClose } from './lib/compare.ts';

const TOLERANCE = 1e-5;
const HEADER = {
  routerIncarnation: 1n,
  step: 0,
  layer: 0,
  microBatch: 0,
  attempt: 0,
  part: 0,
  epoch: 1,
  combineMode: 'exact',
  traceparent: null,
} as const;

type MoeCase = BlockCase<'moe'>;

function newRuntime(): Runtime {
  return new (loadNative().Runtime)({ threads: 2, isa: 'auto', bf16Kernels: 'auto' });
}

function newStep(runtime: Runtime, { spec, file }: MoeCase): StepBuffers {
  return new (loadNative().StepBuffers)(runtime, {
    maxTokens: file.shape('in.hidden')[0] as number,
    hidden: spec.hidden_size,
    numExperts: spec.num_experts,
    topK: spec.num_experts_per_tok,
    rowFormat: 'f32',
    maxLogitRows: 1,
    vocab: 2,
  });
}

/** A step after the gate of a case has run on its input. */
async function gated(runtime: Runtime, moe: MoeCase): Promise<StepBuffers> {
  const { spec, file } = moe;
  const gate = new (loadNative().MoeGate)(
    runtime,
    {
      hidden: spec.hidden_size,
      numExperts: spec.num_experts,
      topK: spec.num_experts_per_tok,
      normTopk: spec.norm_topk,
      norm: { eps: spec.rms_norm_eps, zeroCentered: spec.zero_centered },
      format: 'f32',
    },
    { norm: file.source('weights.post_norm'), gate: file.source('weights.gate.weight') },
  );
  const step = newStep(runtime, moe);
  step.setBatch(singleSequence(0, file.shape('in.hidden')[0] as number, { mode: 1 }));
  step.setHidden(file.floats('in.hidden'));
  await gate.forward(step, 'decode');
  return step;
}

/** A shard that holds every expert of a case. */
async function shardOf(runtime: Runtime, { spec, file }: MoeCase): Promise<ExpertShard> {
  const intermediate = spec.moe_intermediate_size;
  const shard = new (loadNative().ExpertShard)(runtime, {
    numLayers: 1,
    numExperts: spec.num_experts,
    hidden: spec.hidden_size,
    intermediate,
    format: 'f32',
    rowFormat: 'f32',
  });
  for (let e = 0; e < spec.num_experts; e++) {
    const gate = file.sliceSource('weights.experts.gate_up_proj', e, 0, intermediate);
    const up = file.sliceSource('weights.experts.gate_up_proj', e, intermediate, 2 * intermediate);
    const down = file.sliceSource('weights.experts.down_proj', e, 0, spec.hidden_size);
    await shard.load(0, e, gate, up, down);
  }
  return shard;
}

/** Sends the entries that `include` names through the shard and unpacks the reply. */
async function throughShard(
  step: StepBuffers,
  shard: ExpertShard,
  { spec, file }: MoeCase,
  include: ((expert: number, slot: number) => boolean) | null,
): Promise<void> {
  const [message] = planMessages({
    topkIds: step.topkIds,
    topkWeights: step.topkWeights,
    numTokens: file.shape('in.hidden')[0] as number,
    topK: spec.num_experts_per_tok,
    rowBytes: 4 * spec.hidden_size,
    mode: 'exact',
    maxMessageBytes: 1 << 22,
    include,
  });
  assert.ok(message);
  const { rowIndex, entryCount, experts, weights, slots } = message;
  const reply = await shard.forward(step.packForward(HEADER, rowIndex, entryCount, experts, weights), 0, 'decode');
  step.unpackReply(reply, slots, entryCount, 'exact');
}

for (const moe of blockCases('moe')) {
  const { spec, file } = moe;
  const tokens = file.shape('in.hidden')[0] as number;
  const topK = spec.num_experts_per_tok;

  test(`${moe.name}: rows, chosen experts and their weights equal the reference`, async () => {
    const step = await gated(newRuntime(), moe);
    const rows = step.rows();
    const floats = new Float32Array(rows.buffer.slice(rows.byteOffset, rows.byteOffset + rows.byteLength));
    assertClose(floats, file.floats('out.rows'), TOLERANCE, 'rows');
    assert.deepEqual(step.topkIds.slice(0, tokens * topK), file.ints('out.topk_ids'));
    assertClose(step.topkWeights.slice(0, tokens * topK), file.floats('out.topk_weights'), 1e-6, 'gate weights');
  });

  test(`${moe.name}: each expert's row equals the reference`, async () => {
    const runtime = newRuntime();
    const step = await gated(runtime, moe);
    const shard = await shardOf(runtime, moe);
    const expected = file.floats('out.expert_rows');
    const weights = step.topkWeights.slice(0, tokens * topK);
    step.beginCombine();
    await throughShard(step, shard, moe, null);
    assert.equal(step.missing(), 0);
    await step.combine('decode');
    const sum = Float32Array.from(file.floats('in.hidden'));
    for (let entry = 0; entry < tokens * topK; entry++) {
      for (let h = 0; h < spec.hidden_size; h++) {
        const at = Math.floor(entry / topK) * spec.hidden_size + h;
        sum[at] = (sum[at] as number) + (weights[entry] as number) * (expected[entry * spec.hidden_size + h] as number);
      }
    }
    assertClose(step.hidden(), sum, TOLERANCE, 'hidden + weighted expert rows');
  });

  test(`${moe.name}: the whole block equals the reference, rows arriving in two parts`, async () => {
    const runtime = newRuntime();
    const step = await gated(runtime, moe);
    const shard = await shardOf(runtime, moe);
    step.beginCombine();
    await throughShard(step, shard, moe, (expert) => expert % 2 === 1);
    assert.ok(step.missing() > 0);
    await throughShard(step, shard, moe, (expert) => expert % 2 === 0);
    if (spec.shared_expert_intermediate_size !== null) {
      const shared = new (loadNative().SharedExpert)(
        runtime,
        { hidden: spec.hidden_size, intermediate: spec.shared_expert_intermediate_size, format: 'f32' },
        {
          gate: file.source('weights.shared_expert.gate_proj.weight'),
          up: file.source('weights.shared_expert.up_proj.weight'),
          down: file.source('weights.shared_expert.down_proj.weight'),
          sharedGate: file.source('weights.shared_expert_gate.weight'),
        },
      );
      await shared.forward(step, 'decode');
    }
    await step.combine('decode');
    assertClose(step.hidden(), file.floats('out.hidden'), TOLERANCE, 'hidden rows');
  });
}
