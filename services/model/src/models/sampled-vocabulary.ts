import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fail } from '@guildhall/common';
import type { ModelConfig } from '../config.ts';
import { tokenizerSize } from '../tokenizer/tokenizer.ts';

/**
 * How many ids can be sampled: those of the tokenizer, or all rows of the embedding in a checkpoint without one.
 * @throws checkpoint_invalid if the tokenizer has ids that the embedding has no row for.
 */
export function sampledVocabulary(dir: string, config: ModelConfig): number {
  const path = join(dir, 'tokenizer.json');
  if (!existsSync(path)) return config.vocab;
  const size = tokenizerSize(dir);
  if (size > config.vocab) {
    throw fail('checkpoint_invalid', `${path}: found ids up to ${size - 1}, expected below vocab_size ${config.vocab}`);
  }
  return size;
}
