import type { Embedding } from '@guildhall/native';
import type { BuildContext } from './build-context.ts';

/** Token embedding: hidden = rows of the table. */
export function buildEmbedding({ native, runtime, checkpoint, format }: BuildContext): Embedding {
  return new native.Embedding(runtime, checkpoint.source(checkpoint.layout.embedding), format);
}
