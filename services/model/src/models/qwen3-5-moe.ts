import { fail } from '@guildhall/common';
import type { BuildContext } from '../layers/build-context.ts';
import { buildGatedAttention } from '../layers/gated-attention.ts';
import { buildGatedDeltaNet } from '../layers/gated-delta-net.ts';
import { buildSharedExpert } from '../layers/shared-expert.ts';
import { buildMoeGate } from '../moe/gate.ts';
import type { DecoderLayer, ModelDefinition } from './definition.ts';

/**
 * Qwen3.5-MoE: Gated DeltaNet layers with a gated-attention layer after every few of them, each followed by routed
 * experts and a shared one; zero-centred norms, partial rotary embedding with interleaved sections.
 */
export const qwen3_5Moe: ModelDefinition = { buildLayer: buildHybridLayer };

/** A layer whose mixer is linear or full attention by the config. */
export function buildHybridLayer(context: BuildContext, index: number): DecoderLayer {
  const mix =
    context.config.layerTypes[index] === 'linear_attention' ? deltaMixer(context, index) : attentionMixer(context, index);
  return { mix, gate: buildMoeGate(context, index), shared: buildSharedExpert(context, index) };
}

function deltaMixer(context: BuildContext, index: number): DecoderLayer['mix'] {
  const block = buildGatedDeltaNet(context, index);
  return (step, { states }, lane) => {
    if (states === null) throw fail('internal', `layer ${index} needs a pool of DeltaNet states`);
    return block.forward(step, states, lane);
  };
}

/** Full attention as a mixer. */
export function attentionMixer(context: BuildContext, index: number): DecoderLayer['mix'] {
  const block = buildGatedAttention(context, index);
  return (step, { kv }, lane) => block.forward(step, kv, lane);
}
