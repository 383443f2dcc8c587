import type { SharedExpert } from '@guildhall/native';
import { layerPrefix, type BuildContext } from './build-context.ts';

/** The expert that every token takes, weighted by a sigmoid gate; null in models without one. */
export function buildSharedExpert(context: BuildContext, index: number): SharedExpert | null {
  const { native, runtime, weights, config, format } = context;
  const intermediate = config.moe.sharedIntermediate;
  if (intermediate === null) return null;
  const prefix = `${layerPrefix(context, index)}mlp.`;
  const sources = {
    gate: weights.matrix(`${prefix}shared_expert.gate_proj.weight`),
    up: weights.matrix(`${prefix}shared_expert.up_proj.weight`),
    down: weights.matrix(`${prefix}shared_expert.down_proj.weight`),
    sharedGate: weights.source(`${prefix}shared_expert_gate.weight`),
  };
  return new native.SharedExpert(runtime, { hidden: config.hidden, intermediate, format }, sources);
}
