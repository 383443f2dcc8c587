import type { GatedAttention, GatedAttentionSpec, GatedAttentionWeights } from '@guildhall/native';
import { indexAmongType, layerPrefix, type BuildContext } from './build-context.ts';

/** Full attention over paged K and V; q_proj holds a gate beside each query head where the config says so. */
export function buildGatedAttention(context: BuildContext, index: number): GatedAttention {
  const { native, runtime, config, format } = context;
  const { numHeads, numKvHeads, headDim, outputGate, rope } = config.attention;
  const spec: GatedAttentionSpec = {
    hidden: config.hidden,
    numHeads,
    numKvHeads,
    headDim,
    rotaryDim: rope.rotaryDim,
    invFreq: rope.invFreq,
    freqAxis: rope.freqAxis,
    ropeScale: rope.scale,
    outputGate,
    inputNorm: config.norm,
    qkNorm: config.norm,
    format,
    kvLayer: indexAmongType(config, index),
  };
  return new native.GatedAttention(runtime, spec, attentionWeights(context, index));
}

function attentionWeights(context: BuildContext, index: number): GatedAttentionWeights {
  const { weights } = context;
  const prefix = layerPrefix(context, index);
  return {
    inputNorm: weights.source(`${prefix}input_layernorm.weight`),
    qProj: weights.matrix(`${prefix}self_attn.q_proj.weight`),
    kProj: weights.matrix(`${prefix}self_attn.k_proj.weight`),
    vProj: weights.matrix(`${prefix}self_attn.v_proj.weight`),
    oProj: weights.matrix(`${prefix}self_attn.o_proj.weight`),
    qNorm: weights.source(`${prefix}self_attn.q_norm.weight`),
    kNorm: weights.source(`${prefix}self_attn.k_norm.weight`),
  };
}
