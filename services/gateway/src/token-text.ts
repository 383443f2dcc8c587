/** What single tokens are read from; a Tokenizer is one. */
export interface TokenSource {
  tokenBytes(id: number): Uint8Array;
}

/** One token as text. */
export interface TokenText {
  /** U+FFFD stands for bytes that are no whole character. */
  text: string;
  bytes: number[];
}

const lenient = new TextDecoder('utf-8', { ignoreBOM: true });
const strict = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** Text and bytes of a single token. */
export function tokenText(source: TokenSource, id: number): TokenText {
  const bytes = source.tokenBytes(id);
  return { text: lenient.decode(bytes), bytes: [...bytes] };
}

/** The token's text, or `bytes:\xf0\x9f` where its bytes are no whole characters, so that each token has a key of its own. */
export function tokenKey(source: TokenSource, id: number): string {
  const bytes = source.tokenBytes(id);
  try {
    return strict.decode(bytes);
  } catch {
    return `bytes:${[...bytes].map((byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('')}`;
  }
}
