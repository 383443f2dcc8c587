import type { ModelFamily } from '../config.ts';
import type { ModelDefinition } from './definition.ts';
import { qwen3_5Moe } from './qwen3-5-moe.ts';
import { qwen3Moe } from './qwen3-moe.ts';
import { qwen3Next } from './qwen3-next.ts';

const MODELS: Record<ModelFamily, ModelDefinition> = {
  qwen3_5_moe: qwen3_5Moe,
  qwen3_next: qwen3Next,
  qwen3_moe: qwen3Moe,
};

/** The model of a family. */
export function definitionOf(family: ModelFamily): ModelDefinition {
  return MODELS[family];
}
