import type { Tokenizer } from '@guildhall/model';

/** What the engine needs to know of a checkpoint's tokens. Plain data: it goes to threads. */
export interface Vocabulary {
  /** Tokens by id, as byte-level text; '' for ids that stand for no text. */
  tokens: string[];
  /** Added tokens that are no control tokens, such as those around tool calls: text only where a grammar says so. */
  markers: { id: number; token: string }[];
  /** Ids that can be sampled, with padding. */
  size: number;
  stopIds: readonly number[];
}

const BYTE_CHARS = byteChars();

/** Character of each byte in the byte-level alphabet of GPT-2 and its successors. */
function byteChars(): readonly string[] {
  let next = 0x100;
  return Array.from({ length: 256 }, (_, byte) => {
    const isPrintable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    return String.fromCharCode(isPrintable ? byte : next++);
  });
}

/** The tokens of a checkpoint, as grammars see them: control tokens match nothing, whatever their text. */
export function vocabularyOf(
  tokenizer: Pick<Tokenizer, 'size' | 'tokenBytes' | 'isSpecial' | 'isAdded'>,
  size: number,
  stopIds: readonly number[],
): Vocabulary {
  const stops = new Set(stopIds);
  const markers: Vocabulary['markers'] = [];
  const tokens = Array.from({ length: tokenizer.size }, (_, id) => {
    if (stops.has(id) || tokenizer.isSpecial(id)) return '';
    const token = Array.from(tokenizer.tokenBytes(id), (byte) => BYTE_CHARS[byte]).join('');
    if (!tokenizer.isAdded(id)) return token;
    markers.push({ id, token });
    return '';
  });
  return { tokens, markers, size, stopIds };
}

const BYTE_OF_CHAR: ReadonlyMap<string, number> = new Map(BYTE_CHARS.map((char, byte) => [char, byte]));

/** Bytes of a token that is given as byte-level text. */
export function bytesOfToken(token: string): Uint8Array {
  return Uint8Array.from(token, (char) => BYTE_OF_CHAR.get(char) ?? 0x3f);
}
