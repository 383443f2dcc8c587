import { fail, type GuildhallError } from '@guildhall/common';

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const FIRST_PRINTABLE = 0x20;
const INTEGER = /(?:0|[1-9][0-9]{0,15})(?![0-9.eE])/y;

/**
 * Scanner for the JSON subset of a safetensors header: objects, strings and arrays of non-negative integers. A general
 * parser would drop the first of two equal names without a word and would follow any nesting.
 */
export class HeaderScanner {
  readonly #file: string;
  readonly #text: string;
  #at = 0;

  constructor(file: string, text: string) {
    this.#file = file;
    this.#text = text;
  }

  #error(expected: string): GuildhallError {
    const found = JSON.stringify(this.#text.slice(this.#at, this.#at + 24));
    return fail(
      'checkpoint_invalid',
      `${this.#file}: header: found ${found} at character ${this.#at}, expected ${expected}`,
    );
  }

  #skipSpace(): void {
    while (' \t\n\r'.includes(this.#text.charAt(this.#at)) && this.#at < this.#text.length) this.#at++;
  }

  #take(character: string): boolean {
    this.#skipSpace();
    if (this.#text[this.#at] !== character) return false;
    this.#at++;
    return true;
  }

  #expect(character: string): void {
    if (!this.#take(character)) throw this.#error(`"${character}"`);
  }

  /** Reads an object; `value` is called after each key and must read what follows it. */
  object(value: (key: string) => void): void {
    this.#expect('{');
    if (this.#take('}')) return;
    do {
      const key = this.string();
      this.#expect(':');
      value(key);
    } while (this.#take(','));
    this.#expect('}');
  }

  string(): string {
    this.#skipSpace();
    const start = this.#at;
    const end = this.#closingQuote(start);
    if (end === null) throw this.#error('a string');
    this.#at = end + 1;
    const quoted = this.#text.slice(start, this.#at);
    // Without escapes it is taken as it lies.
    if (!quoted.includes('\\')) return quoted.slice(1, -1);
    try {
      return JSON.parse(quoted) as string;
    } catch {
      this.#at = start;
      throw this.#error('a string');
    }
  }

  #closingQuote(start: number): number | null {
    if (this.#text.charCodeAt(start) !== QUOTE) return null;
    for (let i = start + 1; i < this.#text.length; i++) {
      const code = this.#text.charCodeAt(i);
      if (code === QUOTE) return i;
      if (code < FIRST_PRINTABLE) return null;
      if (code === BACKSLASH) i++;
    }
    return null;
  }

  /** Reads an array of at most `max` integers from 0 to 2^53 - 1. */
  integers(max: number): number[] {
    const values: number[] = [];
    this.#expect('[');
    if (this.#take(']')) return values;
    do {
      this.#skipSpace();
      INTEGER.lastIndex = this.#at;
      const digits = INTEGER.exec(this.#text)?.[0] ?? '';
      const value = Number(digits);
      if (digits === '' || !Number.isSafeInteger(value)) throw this.#error('an integer from 0 to 2^53 - 1');
      this.#at += digits.length;
      if (values.length === max) throw this.#error(`at most ${max} integers`);
      values.push(value);
    } while (this.#take(','));
    this.#expect(']');
    return values;
  }

  /** Only spaces may follow: the format pads headers with them. */
  end(): void {
    this.#skipSpace();
    if (this.#at !== this.#text.length) throw this.#error('the end of the header');
  }
}
