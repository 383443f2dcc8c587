import { syntheticTokens } from './vocabulary.ts';

/** A tokenizer.json as far as it is read here. */
interface TokenizerFile {
  added_tokens: { id: number; content: string }[];
  model: { vocab: Record<string, number> };
}

/** Vocabularies from here on get words of many scripts instead of numbered ones. */
const MULTILINGUAL_SIZE = 100_000;

/**
 * A byte-level BPE tokenizer with entries for every id below `size`: ids past its own decode to words. No merge
 * makes them, so that text is tokenised as before; a random model can produce all of them.
 */
export function extendTokenizer(json: string, size: number): string {
  const file = JSON.parse(json) as TokenizerFile;
  const taken = new Set([...Object.values(file.model.vocab), ...file.added_tokens.map(({ id }) => id)]);
  const words = size < MULTILINGUAL_SIZE ? [] : syntheticTokens(size, new Set(Object.keys(file.model.vocab)));
  for (let id = 0; id < size; id++) {
    // 'Ġ' is a leading space in the byte-level alphabet.
    if (!taken.has(id)) file.model.vocab[words[id] ?? `Ġ${wordOf(id)}`] = id;
  }
  return JSON.stringify(file);
}

/** A word for a number: digits in base 26 behind a letter that ordinary text does not start words with. */
function wordOf(id: number): string {
  let word = '';
  for (let rest = id; rest > 0; rest = Math.floor(rest / 26)) word += String.fromCharCode(97 + (rest % 26));
  return `zq${word}`;
}
