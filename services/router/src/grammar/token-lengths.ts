import { IMPOSSIBLE_BYTES } from '@guildhall/common/grammar';
import type { TokenMask } from './messages.ts';
import { bytesOfToken } from './vocabulary.ts';

export const QUOTE = 0x22;
export const BACKSLASH = 0x5c;
export const LINE_BREAK = 0x0a;

/** Where a token begins: outside of counted strings; in one of JSON, perhaps right after a backslash; in a line of text. */
export type Place = 'outside' | 'inside' | 'escape' | 'line';

/** Characters are counted up to here; what is longer is looked at as if it were so long. */
const MOST = 255;

/** Bytes that follow the first one of a character. */
export function continuationBytes(byte: number): number {
  if (byte < 0xc0) return 0;
  return byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
}

export function isContinuation(byte: number): boolean {
  return (byte & 0xc0) === 0x80;
}

interface Counts {
  /** Characters that begin before the end of the string in which the token begins. */
  lead: number;
  /** Most characters after a quote or line break that may begin another string. */
  inner: number;
}

/** Counts of one token. What stands after a quote or line break is taken for a string, which is never too little. */
function countsOf(bytes: Uint8Array, from: Place): Counts {
  let [lead, inner, run] = [0, 0, 0];
  let at: 'lead' | 'between' | 'inner' = from === 'outside' ? 'between' : 'lead';
  let escaped = from === 'escape';
  const end = from === 'line' ? LINE_BREAK : QUOTE;
  for (const byte of bytes) {
    if (escaped) {
      escaped = false;
    } else if (at === 'lead') {
      // The end of the first string begins no other one; any later quote or line break may.
      if (byte === end) at = 'between';
      else if (!isContinuation(byte)) lead += 1;
      escaped = from !== 'line' && byte === BACKSLASH;
    } else if (byte === QUOTE || byte === LINE_BREAK) {
      [at, run] = ['inner', 0];
    } else if (at === 'inner' && !isContinuation(byte)) {
      inner = Math.max(inner, ++run);
    }
  }
  return { lead: Math.min(lead, MOST), inner: Math.min(inner, MOST) };
}

/** How many characters of strings the tokens of a vocabulary have, as masks. Made when first asked for. */
export class TokenLengths {
  readonly tokens: readonly string[];
  readonly #words: number;
  readonly #counts = new Map<string, Uint8Array>();
  readonly #masks = new Map<string, TokenMask>();
  #impossible: TokenMask | null = null;

  /** `tokens`: byte-level text by id; `size`: ids that a mask has bits for. */
  constructor(tokens: readonly string[], size: number) {
    this.tokens = tokens;
    this.#words = Math.ceil(size / 32);
  }

  bytes(id: number): Uint8Array {
    return bytesOfToken(this.tokens[id] ?? '');
  }

  /** Tokens with a byte that no text has. */
  get impossible(): TokenMask {
    if (this.#impossible !== null) return this.#impossible;
    const mask = new Int32Array(this.#words);
    for (const id of this.tokens.keys()) {
      if (this.bytes(id).some((byte) => IMPOSSIBLE_BYTES.has(byte))) setBit(mask, id);
    }
    return (this.#impossible = mask);
  }

  /** Tokens that bring a string in which they begin more than `most` characters; null for none. */
  longerLead(from: Exclude<Place, 'outside'>, most: number): TokenMask | null {
    return this.#longer('lead', from, most);
  }

  /** Tokens that may begin another string and bring it more than `most` characters; null for none. */
  longerInner(from: Place, most: number): TokenMask | null {
    return this.#longer('inner', from, most);
  }

  #longer(which: keyof Counts, from: Place, most: number): TokenMask | null {
    if (most >= MOST) return null;
    const key = `${which} ${from} ${most}`;
    const known = this.#masks.get(key);
    if (known !== undefined) return known;
    const counts = this.#countsFrom(which, from);
    const mask = new Int32Array(this.#words);
    for (const [id, count] of counts.entries()) if (count > most) setBit(mask, id);
    this.#masks.set(key, mask);
    return mask;
  }

  #countsFrom(which: keyof Counts, from: Place): Uint8Array {
    const key = `${which} ${from}`;
    let counts = this.#counts.get(key);
    if (counts === undefined) {
      const all = this.tokens.map((_, id) => countsOf(this.bytes(id), from));
      for (const name of ['lead', 'inner'] as const) {
        this.#counts.set(
          `${name} ${from}`,
          Uint8Array.from(all, (entry) => entry[name]),
        );
      }
      counts = this.#counts.get(key) as Uint8Array;
    }
    return counts;
  }
}

function setBit(mask: TokenMask, id: number): void {
  mask[id >>> 5] = (mask[id >>> 5] as number) | (1 << (id & 31));
}
