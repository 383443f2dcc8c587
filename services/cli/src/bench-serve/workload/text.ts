import { Random } from '../../simulate/kernel/random.ts';

/**
 * Common words that tokenizers of any kind keep whole behind a space, so that a text of n words has about n tokens; what is
 * left of the difference is measured (`TokenRate`).
 */
const WORDS = (
  'time year people way day man thing woman life child world school state family student group country problem hand part ' +
  'place case week company system program question work government number night point home water room mother area money ' +
  'story fact month lot right study book eye job word business issue side kind head house service friend father power hour ' +
  'game line end member law car city name team minute idea body back parent face others level office door health person art ' +
  'war history party result change morning reason research girl guy moment air teacher force food light road form river'
).split(' ');

/** How texts of a server's tokenizer relate to words. */
export interface TokenRate {
  /** Tokens of one more word. */
  perWord: number;
  /** Tokens that a request has beside the words: the template's. */
  overhead: number;
  /** Whether the server said so; otherwise one token a word is assumed. */
  measured: boolean;
}

export const ASSUMED_RATE: TokenRate = { perWord: 1, overhead: 0, measured: false };

/** Words that are a function of seed and label. */
export function wordsOf(seed: number, label: string, count: number): string {
  const random = new Random(seed, label);
  const words: string[] = [];
  for (let index = 0; index < count; index++) words.push(WORDS[random.below(WORDS.length)] as string);
  return words.join(' ');
}

/** A text of about so many tokens, at least one word. */
export function textOf(seed: number, label: string, tokens: number, rate: TokenRate): string {
  return wordsOf(seed, label, Math.max(1, Math.round(tokens / rate.perWord)));
}

/** The straight line through two measurements of words and the prompt's tokens. */
export function rateFrom(few: { words: number; tokens: number }, many: { words: number; tokens: number }): TokenRate {
  const perWord = (many.tokens - few.tokens) / (many.words - few.words);
  if (!Number.isFinite(perWord) || perWord <= 0) return ASSUMED_RATE;
  return { perWord, overhead: Math.max(0, few.tokens - few.words * perWord), measured: true };
}
