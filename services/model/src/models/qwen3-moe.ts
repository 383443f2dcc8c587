import { buildGatedAttention } from '../layers/gated-attention.ts';
import { buildMoeGate } from '../moe/gate.ts';
import type { ModelDefinition } from './definition.ts';

/** Qwen3-MoE: full attention without gate in every layer, plain norms, routed experts only. */
export const qwen3Moe: ModelDefinition = {
  buildLayer: (context, index) => ({
    deltaNet: null,
    attention: buildGatedAttention(context, index),
    gate: buildMoeGate(context, index),
    shared: null,
  }),
};
