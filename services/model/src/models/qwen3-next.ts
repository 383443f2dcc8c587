import { buildHybridLayer } from './qwen3-5-moe.ts';
import type { ModelDefinition } from './definition.ts';

/**
 * Qwen3-Next: the layers of Qwen3.5-MoE with plain rotary positions. Its checkpoints group the DeltaNet projections by
 * key head and store experts one by one; the layout of the checkpoint takes care of both.
 */
export const qwen3Next: ModelDefinition = { buildLayer: buildHybridLayer };
