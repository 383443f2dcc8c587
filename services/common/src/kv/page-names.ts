import { hash } from 'node:crypto';
import { fail } from '../errors.ts';

/** Length of a name, bytes. */
export const NAME_BYTES = 16;
/** Longest salt, characters: it is the client's. */
export const MAX_SALT_LENGTH = 256;

declare const nameBrand: unique symbol;
/** Name of a page or of the state behind it: 16 bytes as a latin1 string, so that it can be a Map's key. */
export type PageName = string & { readonly [nameBrand]: true };

/** What all names of a prompt depend on beside its tokens. */
export interface NameSpace {
  fingerprint: string;
  numericsId: string;
  /** Tokens of a named page, a multiple of 64. */
  pageTokens: number;
  salt: string;
  /** Adapter over the model's weights; '' for none. */
  adapter: string;
}

/** First 16 bytes of SHA-256: names are compared with their tokens too, so that a collision costs a miss. */
function digest(bytes: Uint8Array): PageName {
  return hash('sha256', bytes, 'binary').slice(0, NAME_BYTES) as PageName;
}

/** Name before the first page. Fields are written with their lengths, so that none can pose as another. */
export function rootName(space: NameSpace): PageName {
  const { fingerprint, numericsId, pageTokens, salt, adapter } = space;
  return digest(Buffer.from(JSON.stringify(['guildhall-kv-1', fingerprint, numericsId, pageTokens, salt, adapter])));
}

/** Who made a page; pages of decode round otherwise, so that they have names of their own. */
export type Producer = 'prefill' | 'decode';

/**
 * Names of the whole pages of a prompt, computed as they are asked for: name i = hash of (name i-1, producer, tokens of
 * page i). About 2 us each.
 */
export class PageNames {
  readonly pageTokens: number;
  readonly root: PageName;
  readonly #tokens: Int32Array;
  readonly #names: PageName[] = [];
  readonly #buffer: Buffer;

  /** `tokens` [n] are the prompt's ids; later changes of the array must not touch whole pages. */
  constructor(space: NameSpace, tokens: Int32Array) {
    this.pageTokens = space.pageTokens;
    this.root = rootName(space);
    this.#tokens = tokens;
    this.#buffer = Buffer.alloc(NAME_BYTES + 1 + 4 * space.pageTokens);
  }

  /** Whole pages of the prompt. */
  get length(): number {
    return Math.floor(this.#tokens.length / this.pageTokens);
  }

  /** Name of page `index` as prefill makes it. Errors: `integrity` outside of the prompt's whole pages. */
  at(index: number): PageName {
    if (!(index >= 0 && index < this.length))
      throw fail('integrity', `the prompt has ${this.length} pages and no page ${index}`);
    while (this.#names.length <= index) {
      const next = this.#names.length;
      this.#names.push(this.childOf(this.#names[next - 1] ?? this.root, this.tokens(next), 'prefill'));
    }
    return this.#names[index] as PageName;
  }

  /** Names of pages [0, count). */
  first(count: number): readonly PageName[] {
    if (count > 0) this.at(count - 1);
    return this.#names.slice(0, count);
  }

  /** Name of a page with these tokens [pageTokens] after a page called `previous`. */
  childOf(previous: PageName, tokens: Int32Array, producer: Producer): PageName {
    return childName(previous, producer, tokens, this.#buffer);
  }

  /** Token ids of page `index` [pageTokens]. */
  tokens(index: number): Int32Array {
    return this.#tokens.subarray(index * this.pageTokens, (index + 1) * this.pageTokens);
  }
}

function childName(previous: PageName, producer: Producer, tokens: Int32Array, buffer: Buffer): PageName {
  buffer.write(previous, 0, 'latin1');
  buffer[NAME_BYTES] = producer === 'prefill' ? 0 : 1;
  let at = NAME_BYTES + 1;
  for (const id of tokens) at = buffer.writeInt32LE(id, at);
  return digest(buffer);
}

/** Names as one run of bytes [n * 16], for Redis and gRPC. */
export function packNames(names: readonly PageName[]): Buffer {
  return Buffer.from(names.join(''), 'latin1');
}

/** The names in a run of bytes; null when its length is not a multiple of 16. */
export function unpackNames(bytes: Uint8Array): PageName[] | null {
  if (bytes.length % NAME_BYTES !== 0) return null;
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
  const names: PageName[] = [];
  for (let at = 0; at < text.length; at += NAME_BYTES) names.push(text.slice(at, at + NAME_BYTES) as PageName);
  return names;
}

/** A name for people. */
export function nameToHex(name: PageName): string {
  return Buffer.from(name, 'latin1').toString('hex');
}
