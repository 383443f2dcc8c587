import { join } from 'node:path';
import { fail } from '@guildhall/common';
import tokenizers from 'tokenizers';
import type { Tokenizer as RustTokenizer } from 'tokenizers';
import { describe, isRecord, parseJsonObject, readTextFile } from '../json-file.ts';
import { tokenToBytes } from './byte-level.ts';
import { canCut, endOfPiece, MAX_UNCUT, PIECE_LENGTH } from './text-pieces.ts';
import { Turns } from './turns.ts';

const FILE = 'tokenizer.json';
const MAX_BYTES = 256 * 1024 * 1024;
const MAX_ID = 4_194_303;

/** What this code needs to know of tokenizer.json; the rest is the Rust core's. */
interface Vocabulary {
  /** Token of each id; added tokens win over the model's. */
  tokens: (string | undefined)[];
  ids: Map<string, number>;
  /** Ids that `skipSpecial` leaves out. */
  special: Set<number>;
  /** Ids of added tokens, special ones among them. */
  added: Set<number>;
  /** Long texts may be cut into pieces. */
  cuts: boolean;
}

/** How a text is encoded. */
export interface EncodeOptions {
  /** Add what the post-processor adds around a text; chat templates spell that out themselves. */
  addSpecial?: boolean;
  /** Tokens after which the rest of a long text need not be encoded: a longer result may lack its end. */
  enough?: number;
  /** Asked before each piece of a text: nobody wants the tokens any more. */
  gone?: () => boolean;
  /** Names the text in errors. */
  field?: string;
}

/**
 * A byte-level BPE tokenizer. Encoding is the Rust core's and runs on its threads; decoding happens here, on bytes, so
 * that streams can be decoded token by token.
 */
export class Tokenizer {
  /** One more than the largest id. */
  readonly size: number;
  readonly #core: RustTokenizer;
  readonly #vocabulary: Vocabulary;
  readonly #bytes: (Uint8Array | undefined)[] = [];
  readonly #turns = new Turns();

  private constructor(core: RustTokenizer, vocabulary: Vocabulary) {
    this.#core = core;
    this.#vocabulary = vocabulary;
    this.size = vocabulary.tokens.length;
  }

  /**
   * Reads tokenizer.json of a checkpoint directory.
   * @throws checkpoint_not_found; checkpoint_invalid naming the file and what was expected.
   */
  static load(dir: string): Tokenizer {
    const path = join(dir, FILE);
    const text = readTextFile(dir, FILE, MAX_BYTES);
    const vocabulary = readVocabulary(path, text);
    try {
      return new Tokenizer(tokenizers.Tokenizer.fromString(text), vocabulary);
    } catch (err) {
      throw fail('checkpoint_invalid', `${path}: ${(err as Error).message}`, { cause: err });
    }
  }

  /**
   * Token ids of a text. Special tokens that are spelled out in it become their ids. A long text is encoded piece by piece, beside few other
   * long ones, with the tokens of the whole.
   * @throws invalid_value for a text that cannot be cut for too long; cancelled when nobody wants the tokens any more.
   */
  async encode(text: string, options: EncodeOptions = {}): Promise<Int32Array> {
    const { addSpecial = false, enough = Infinity, gone } = options;
    const encode = (piece: string): Promise<Int32Array> => {
      if (gone?.() === true) throw fail('cancelled', 'the client closed the connection');
      return this.#encodePiece(piece, addSpecial);
    };
    if (text.length <= PIECE_LENGTH) return encode(text);
    const cuts = this.#vocabulary.cuts && !(addSpecial && (await this.#addsSpecial()));
    const ends = cuts ? endsOfPieces(text, options.field) : [text.length];
    const pieces: Int32Array[] = [];
    let [from, count] = [0, 0];
    for (const end of ends) {
      const piece = text.slice(from, end);
      const ids = await this.#turns.run(async () => encode(piece));
      pieces.push(ids);
      from = end;
      count += ids.length;
      if (count > enough) break;
    }
    return joined(pieces, count);
  }

  async #encodePiece(text: string, addSpecial: boolean): Promise<Int32Array> {
    const encoding = await this.#core.encode(text, null, { addSpecialTokens: addSpecial });
    return Int32Array.from(encoding.getIds());
  }

  /** The post-processor puts tokens around texts. */
  async #addsSpecial(): Promise<boolean> {
    return (await this.#encodePiece('', true)).length > 0;
  }

  /** Text of token ids; invalid UTF-8 becomes U+FFFD, ids without a token become nothing. */
  decode(ids: Iterable<number>, options: { skipSpecial?: boolean } = {}): string {
    const skipSpecial = options.skipSpecial ?? false;
    const parts: Uint8Array[] = [];
    for (const id of ids) {
      if (!(skipSpecial && this.isSpecial(id))) parts.push(this.tokenBytes(id));
    }
    return new TextDecoder('utf-8', { ignoreBOM: true }).decode(Buffer.concat(parts));
  }

  /** Bytes that an id stands for, none for an id without a token. Do not write to them. */
  tokenBytes(id: number): Uint8Array {
    const cached = this.#bytes[id];
    if (cached !== undefined) return cached;
    const token = this.#vocabulary.tokens[id];
    if (token === undefined) return EMPTY;
    const bytes = tokenToBytes(token);
    this.#bytes[id] = bytes;
    return bytes;
  }

  /** Marked special in the file: control tokens, but not, in this family, those of thinking and tool calls. */
  isSpecial(id: number): boolean {
    return this.#vocabulary.special.has(id);
  }

  /** Added to the vocabulary beside what was learnt from text, special or not. */
  isAdded(id: number): boolean {
    return this.#vocabulary.added.has(id);
  }

  /** Null for a token that does not exist. */
  tokenToId(token: string): number | null {
    return this.#vocabulary.ids.get(token) ?? null;
  }

  /** The token as the file spells it; null for an id without one. */
  idToToken(id: number): string | null {
    return this.#vocabulary.tokens[id] ?? null;
  }
}

const EMPTY = new Uint8Array(0);

function endsOfPieces(text: string, field: string | undefined): number[] {
  const ends: number[] = [];
  for (let from = 0; from < text.length; from = ends.at(-1) ?? text.length) {
    const end = endOfPiece(text, from);
    if (end - from > MAX_UNCUT) {
      const message = `more than ${MAX_UNCUT} characters without the end of a word: put spaces or line breaks between them`;
      throw fail('invalid_value', field === undefined ? message : `${field}: ${message}`, { field: field ?? null });
    }
    ends.push(end);
  }
  return ends;
}

function joined(pieces: readonly Int32Array[], count: number): Int32Array {
  const [only] = pieces;
  if (pieces.length === 1 && only !== undefined) return only;
  const ids = new Int32Array(count);
  let at = 0;
  for (const piece of pieces) {
    ids.set(piece, at);
    at += piece.length;
  }
  return ids;
}

/**
 * One more than the largest token id in tokenizer.json: ids from here on are padding rows of the checkpoint.
 * @throws as Tokenizer.load.
 */
export function tokenizerSize(dir: string): number {
  return readVocabulary(join(dir, FILE), readTextFile(dir, FILE, MAX_BYTES)).tokens.length;
}

function readVocabulary(path: string, text: string): Vocabulary {
  const root = parseJsonObject(path, text);
  expectByteLevel(path, root['decoder']);
  const model = root['model'];
  const vocab = isRecord(model) ? model['vocab'] : undefined;
  if (!isRecord(vocab)) {
    throw fail('checkpoint_invalid', `${path}: model.vocab: found ${describe(vocab)}, expected an object of token ids`);
  }
  const vocabulary: Vocabulary = {
    tokens: [],
    ids: new Map(),
    special: new Set(),
    added: new Set(),
    cuts: canCut(root),
  };
  for (const [token, id] of Object.entries(vocab)) addToken(path, vocabulary, token, id);
  const added = root['added_tokens'] ?? [];
  if (!Array.isArray(added)) {
    throw fail('checkpoint_invalid', `${path}: added_tokens: found ${describe(added)}, expected an array`);
  }
  for (const token of added as unknown[]) addAddedToken(path, vocabulary, token);
  // Ids between the vocabulary and the added tokens may be free: the list is dense, its holes say so.
  vocabulary.tokens = Array.from(vocabulary.tokens);
  return vocabulary;
}

function addToken(path: string, vocabulary: Vocabulary, token: string, id: unknown): void {
  if (typeof id !== 'number' || !Number.isInteger(id) || id < 0 || id > MAX_ID) {
    throw fail(
      'checkpoint_invalid',
      `${path}: token ${describe(token)}: found id ${describe(id)}, expected 0 to ${MAX_ID}`,
    );
  }
  vocabulary.tokens[id] = token;
  vocabulary.ids.set(token, id);
}

function addAddedToken(path: string, vocabulary: Vocabulary, added: unknown): void {
  if (!isRecord(added) || typeof added['content'] !== 'string') {
    throw fail('checkpoint_invalid', `${path}: added_tokens: found ${describe(added)}, expected content and id`);
  }
  addToken(path, vocabulary, added['content'], added['id']);
  vocabulary.added.add(added['id'] as number);
  if (added['special'] === true) vocabulary.special.add(added['id'] as number);
}

/** Streaming byte by byte is exact only where tokens are bytes. */
function expectByteLevel(path: string, decoder: unknown): void {
  const inner = isRecord(decoder) && decoder['type'] === 'Sequence' ? decoder['decoders'] : [decoder];
  const byteLevel =
    Array.isArray(inner) && inner.length === 1 && isRecord(inner[0]) && inner[0]['type'] === 'ByteLevel';
  if (!byteLevel)
    throw fail('checkpoint_invalid', `${path}: decoder: found ${describe(decoder)}, expected type ByteLevel`);
}
