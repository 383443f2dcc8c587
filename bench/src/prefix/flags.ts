import type { ModelSize } from '../models/specs.ts';

/** A model that prefixes are timed with, and how long the shared one is. */
export interface Subject {
  /** Part of the rows' names. */
  name: string;
  model: string;
  weights: string;
  vocab: number;
  prefixTokens: number;
}

/** Tokens that make each prompt different: fewer than a page, so that the state at the prefix's end is the last one. */
export const TAIL_TOKENS = 48;
/** Answers of timed requests: the first token is what is timed, the others show that it goes on. */
export const ANSWER_TOKENS = 4;

/** Pages of 64 tokens that hold one prompt and its answer, with room for a second tail, and no second prefix. */
export function pagesOf(prefixTokens: number): number {
  return prefixTokens / 64 + 4;
}

/** Tokens of the shared prefix: 32,768 for tiny; what takes about a minute for the hybrid model on two cores. */
export function prefixTokens(model: 'tiny' | 'hybrid', size: ModelSize): number {
  if (size === 'small') return 2048;
  return model === 'tiny' ? 32_768 : 8192;
}
