/** Character of each byte in the byte-level alphabet of GPT-2 and its successors. */
const BYTE_CHARS = byteChars();

function byteChars(): readonly string[] {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    const isPrintable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    return String.fromCharCode(isPrintable ? byte : next++);
  });
}

/** Numbers below 1, the same on every machine (xorshift32). */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

/** Letters of a script and the share of the vocabulary that its words have. */
interface Script {
  first: number;
  count: number;
  share: number;
  /** Letters of a word, least and most. */
  length: readonly [number, number];
}

/** Roughly the mix of a multilingual vocabulary: half Latin, then Han, Cyrillic, Arabic, Hangul, Devanagari, Thai, Kana. */
const SCRIPTS: readonly Script[] = [
  { first: 0x61, count: 26, share: 0.5, length: [2, 11] },
  { first: 0x4e00, count: 6000, share: 0.2, length: [1, 4] },
  { first: 0x430, count: 32, share: 0.12, length: [2, 8] },
  { first: 0x627, count: 36, share: 0.06, length: [2, 6] },
  { first: 0xac00, count: 2000, share: 0.05, length: [1, 3] },
  { first: 0x905, count: 50, share: 0.03, length: [2, 5] },
  { first: 0xe01, count: 46, share: 0.02, length: [2, 5] },
  { first: 0x3041, count: 80, share: 0.02, length: [1, 4] },
];
/** Signs of code and JSON, of which runs are tokens; a word has at most one before it, as the usual splitting leaves it. */
const RUNS = ['"', '",', '":', '"]', '"}', '")', '."', '("', '["', '{"', '","', '":"', '},', '}', ']', '],', '{', '[', '(', ')', ');', ';', ':', ','];
const SIGNS = ['"', "'", '_', '.', '/', '-', '(', '<', '[', '=', '#', '@'];
const SPACES = ['', ' ', '\n', '\n\n'];

/**
 * Tokens as byte-level text of a made-up vocabulary with about the lengths and scripts of a multilingual model's: runs of
 * spaces and signs, words of many scripts with and without a space before them. `taken` are left out.
 */
export function syntheticTokens(count: number, taken: ReadonlySet<string>, seed = 1): string[] {
  const random = generator(seed);
  const known = new Set(taken);
  const tokens: string[] = [];
  const add = (text: string): void => {
    const token = Array.from(Buffer.from(text), (byte) => BYTE_CHARS[byte]).join('');
    if (token === '' || known.has(token) || tokens.length >= count) return;
    known.add(token);
    tokens.push(token);
  };
  for (let n = 1; n <= 64; n++) for (const sign of [' ', '\n', '\t', '-', '=', '*', '#', '_']) add(sign.repeat(n));
  for (let n = 1; n <= 32; n++) add(`\n${' '.repeat(n)}`);
  for (const first of RUNS) {
    for (const second of ['', ...RUNS]) for (const space of SPACES) for (const lead of ['', ' ']) add(lead + first + second + space);
  }
  while (tokens.length < count) add(word(random));
  return tokens;
}

function word(random: () => number): string {
  const pick = random();
  let sum = 0;
  const script = SCRIPTS.find(({ share }) => (sum += share) > pick) ?? (SCRIPTS[0] as Script);
  const [least, most] = script.length;
  const length = least + Math.floor(random() * (most - least + 1));
  let letters = '';
  // Squared, so that some letters are common, as they are in words.
  for (let i = 0; i < length; i++) {
    letters += String.fromCodePoint(script.first + Math.floor(random() ** 2 * script.count));
  }
  if (script.first === 0x61 && random() < 0.3) letters = (letters[0] as string).toUpperCase() + letters.slice(1);
  const style = random();
  if (style < 0.53) return ` ${letters}`;
  return style < 0.96 ? letters : `${SIGNS[Math.floor(random() * SIGNS.length)]}${letters}`;
}
