import { fail } from '@guildhall/common';
import type { GatedDeltaNet, GatedDeltaNetSpec, GatedDeltaNetWeights, TensorSource } from '@guildhall/native';
import type { LinearAttentionConfig } from '../config.ts';
import { groupedRows } from '../weights/gated-delta-rows.ts';
import { indexAmongType, layerPrefix, type BuildContext } from './build-context.ts';

/** Linear attention by the gated delta rule, with a short causal convolution and a gated norm on its output. */
export function buildGatedDeltaNet(context: BuildContext, index: number): GatedDeltaNet {
  const { native, runtime, config, format } = context;
  const { linear } = config;
  if (linear === null) throw fail('internal', `layer ${index} is no DeltaNet layer`);
  const spec: GatedDeltaNetSpec = {
    hidden: config.hidden,
    numKeyHeads: linear.numKeyHeads,
    numValueHeads: linear.numValueHeads,
    keyHeadDim: linear.keyHeadDim,
    valueHeadDim: linear.valueHeadDim,
    convKernel: linear.convKernel,
    inputNorm: config.norm,
    outputEps: config.norm.eps,
    format,
    stateLayer: indexAmongType(config, index),
  };
  return new native.GatedDeltaNet(runtime, spec, deltaNetWeights(context, index, linear));
}

function deltaNetWeights(context: BuildContext, index: number, linear: LinearAttentionConfig): GatedDeltaNetWeights {
  const { weights } = context;
  const prefix = layerPrefix(context, index);
  const source = (name: string): TensorSource => weights.source(`${prefix}linear_attn.${name}`);
  return {
    inputNorm: weights.source(`${prefix}input_layernorm.weight`),
    ...inputProjections(context, index, linear),
    conv: source('conv1d.weight'),
    dtBias: source('dt_bias'),
    aLog: source('A_log'),
    norm: source('norm.weight'),
    outProj: weights.matrix(`${prefix}linear_attn.out_proj.weight`),
  };
}

type InputProjections = Pick<GatedDeltaNetWeights, 'inProjQkv' | 'inProjZ' | 'inProjB' | 'inProjA'>;

function inputProjections(context: BuildContext, index: number, linear: LinearAttentionConfig): InputProjections {
  const { weights } = context;
  const prefix = `${layerPrefix(context, index)}linear_attn.`;
  if (weights.layout.layers[index]?.projections === 'grouped') {
    const rows = groupedRows(linear);
    const qkvz = weights.matrix(`${prefix}in_proj_qkvz.weight`);
    const ba = weights.matrix(`${prefix}in_proj_ba.weight`);
    return {
      inProjQkv: { ...qkvz, rows: rows.qkv },
      inProjZ: { ...qkvz, rows: rows.z },
      inProjB: { ...ba, rows: rows.b },
      inProjA: { ...ba, rows: rows.a },
    };
  }
  return {
    inProjQkv: weights.matrix(`${prefix}in_proj_qkv.weight`),
    inProjZ: weights.matrix(`${prefix}in_proj_z.weight`),
    inProjB: weights.matrix(`${prefix}in_proj_b.weight`),
    inProjA: weights.matrix(`${prefix}in_proj_a.weight`),
  };
}
