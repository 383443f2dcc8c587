import { join } from 'node:path';
import { parseModelConfig } from './config/parse.ts';
import type { ModelConfig } from './config/types.ts';
import { readJsonObject } from './json-file.ts';

export { numFullLayers, numLinearLayers } from './config/types.ts';
export type {
  AttentionConfig,
  LayerType,
  LinearAttentionConfig,
  ModelConfig,
  ModelFamily,
  MoeConfig,
  NormConfig,
  RopeConfig,
  VisionConfig,
} from './config/types.ts';
export { parseModelConfig };

const MAX_CONFIG_BYTES = 4 * 1024 * 1024;

/**
 * Reads config.json of a checkpoint directory.
 * @throws checkpoint_not_found without the file; checkpoint_invalid naming file, field, found and expected.
 */
export function loadModelConfig(dir: string): ModelConfig {
  return parseModelConfig(join(dir, 'config.json'), readJsonObject(dir, 'config.json', MAX_CONFIG_BYTES));
}
