import type { Embedding } from '@guildhall/native';
import type { BuildContext } from './build-context.ts';

/** Token embedding: hidden = rows of the table. */
export function buildEmbedding({ native, runtime, weights, format }: BuildContext): Embedding {
  return new native.Embedding(runtime, weights.source(weights.layout.embedding), format);
}
