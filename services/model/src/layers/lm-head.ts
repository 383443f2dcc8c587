import type { LmHead } from '@guildhall/native';
import type { BuildContext } from './build-context.ts';

/**
 * Final norm and output projection.
 * @param tokenizerSize ids from here on are padding rows of the checkpoint and can never be sampled.
 */
export function buildLmHead({ native, runtime, weights, config, format }: BuildContext, tokenizerSize: number): LmHead {
  const { hidden, vocab, norm } = config;
  const { finalNorm, head } = weights.layout;
  const sources = { norm: weights.source(finalNorm), head: weights.matrix(head) };
  return new native.LmHead(runtime, { hidden, vocab, tokenizerSize, norm, format }, sources);
}
