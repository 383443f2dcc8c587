import type { MoeGate } from '@guildhall/native';
import { layerPrefix, type BuildContext } from '../layers/build-context.ts';

/** Post-attention norm, softmax over all experts, top-k. */
export function buildMoeGate(context: BuildContext, index: number): MoeGate {
  const { native, runtime, weights, config, format } = context;
  const { numExperts, topK, normTopk } = config.moe;
  const prefix = layerPrefix(context, index);
  const sources = {
    norm: weights.source(`${prefix}post_attention_layernorm.weight`),
    gate: weights.source(`${prefix}mlp.gate.weight`),
  };
  return new native.MoeGate(
    runtime,
    { hidden: config.hidden, numExperts, topK, normTopk, norm: config.norm, format },
    sources,
  );
}
