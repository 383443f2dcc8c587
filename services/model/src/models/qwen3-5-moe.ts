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
  const linear = context.config.layerTypes[index] === 'linear_attention';
  return {
    deltaNet: linear ? buildGatedDeltaNet(context, index) : null,
    attention: linear ? null : buildGatedAttention(context, index),
    gate: buildMoeGate(context, index),
    shared: buildSharedExpert(context, index),
  };
}
