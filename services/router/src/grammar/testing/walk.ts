import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { systemClock } from '@guildhall/common';
import { silentLogger } from '@guildhall/common/testing';
import { Tokenizer } from '@guildhall/model';
import { type ConstraintSpec, Grammars, type GrammarsOptions } from '../grammars.ts';
import type { TokenMask } from '../messages.ts';
import type { SequenceGrammar } from '../sequence-grammar.ts';
import { vocabularyOf } from '../vocabulary.ts';

const TINY = join(import.meta.dirname, '../../../../../models/tiny');
export const tinyTokenizer = Tokenizer.load(TINY);
/** Ids of the tiny checkpoint's embedding, its end tokens among them. */
export const TINY_VOCAB = 3072;
export const TINY_STOPS = [3000, 3002];

/** Grammars over the tiny checkpoint's tokens, with real threads. */
export function tinyGrammars(options: Partial<GrammarsOptions> = {}): Grammars {
  const grammars = new Grammars({
    vocabulary: vocabularyOf(tinyTokenizer, TINY_VOCAB, TINY_STOPS),
    clock: systemClock,
    logger: silentLogger(),
    compileLimitMs: 30_000,
    memoryBytes: 512 << 20,
    ...options,
  });
  grammars.start();
  return grammars;
}

/** A constraint as requests have it. */
export function constraint(given: Partial<ConstraintSpec>): ConstraintSpec {
  return { afterToken: 0, addedTokens: false, ...given };
}

export function allowedIds(mask: TokenMask): number[] {
  const ids: number[] = [];
  for (const [word, bits] of mask.entries()) {
    for (let bit = 0; bit < 32 && bits !== 0; bit++) if (((bits >>> bit) & 1) === 1) ids.push(word * 32 + bit);
  }
  return ids;
}

/** Numbers below 1 that follow from a seed and a position. */
export function uniformAt(seed: number, position: number): number {
  return createHash('sha256').update(`${seed}/${position}`).digest().readUInt32LE() / 2 ** 32;
}

export interface Walk {
  ids: number[];
  text: string;
  /** Ended by a stop token. */
  ended: boolean;
}

/**
 * Takes allowed tokens at random until a stop token or `limit`. Towards the end of long walks those that close something
 * or must come first (an address has "@" and ".") are preferred, so that most walks end.
 */
export async function walk(grammar: SequenceGrammar, seed: number, limit = 400): Promise<Walk> {
  const ids: number[] = [];
  const text = (): string => tinyTokenizer.decode(ids);
  while (ids.length < limit) {
    const allowed = allowedIds(await grammar.mask());
    const stop = allowed.find((id) => TINY_STOPS.includes(id));
    const draw = uniformAt(seed, ids.length);
    if (stop !== undefined && (allowed.length === TINY_STOPS.length || draw < 0.3))
      return { ids, text: text(), ended: true };
    const closing = allowed.filter((id) => /^["\]}@.]+$/.test(tinyTokenizer.decode([id])));
    const open = allowed.filter((id) => !TINY_STOPS.includes(id));
    const from = closing.length > 0 && draw < Math.min(0.7, ids.length / 100) ? closing : open;
    const next = from[Math.floor(uniformAt(seed, ids.length + 1e6) * from.length)] as number;
    ids.push(next);
    grammar.accept(next);
  }
  return { ids, text: text(), ended: false };
}
