import { buildMoeGate } from '../moe/gate.ts';
import { attentionMixer } from './qwen3-5-moe.ts';
import type { ModelDefinition } from './definition.ts';

/** Qwen3-MoE: full attention without gate in every layer, plain norms, routed experts only. */
export const qwen3Moe: ModelDefinition = {
  buildLayer: (context, index) => ({
    mix: attentionMixer(context, index),
    gate: buildMoeGate(context, index),
    shared: null,
  }),
};
