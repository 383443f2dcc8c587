import type { Tokenizer } from './tokenizer.ts';

/**
 * Text of a stream of tokens. What `push` returns never ends within a UTF-8 character: bytes that may still become one
 * are kept, and U+FFFD stands only for bytes that cannot. The concatenation of all pieces and the flush is the text
 * that Tokenizer.decode gives for all ids, so a replay of the same ids gives the same pieces.
 */
export class IncrementalDetokenizer {
  readonly #tokenizer: Tokenizer;
  readonly #skipSpecial: boolean;
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });

  constructor(tokenizer: Tokenizer, options: { skipSpecial?: boolean } = {}) {
    this.#tokenizer = tokenizer;
    this.#skipSpecial = options.skipSpecial ?? false;
  }

  /** Takes the next id; returns the text that is certain now. */
  push(id: number): string {
    if (this.#skipSpecial && this.#tokenizer.isSpecial(id)) return '';
    return this.#decoder.decode(this.#tokenizer.tokenBytes(id), { stream: true });
  }

  /** Ends the stream: U+FFFD for an unfinished character, if there is one. */
  flush(): string {
    return this.#decoder.decode();
  }
}
