import type { LoggedToken } from './choice-assembler.ts';

/**
 * Tells which tokens a piece of an answer's text is made of. Parsers hold text back and leave markup out, so the tokens of a
 * choice wait here until the text that they brought is said.
 */
export class ContentTokens {
  #tokens: { logged: LoggedToken; text: string }[] = [];
  /** Characters at the beginning of the first token that were said before, */
  #said = 0;
  /** with the token. */
  #shown = false;
  #afterCall = false;

  /** A token, and what it added to the raw text. */
  add(logged: LoggedToken, text: string): void {
    this.#tokens.push({ logged, text });
  }

  /** Text of the last token that has come later: what was left of its bytes. */
  addText(text: string): void {
    const last = this.#tokens.at(-1);
    if (last !== undefined) last.text += text;
  }

  /** A piece of a call was said: the text after it begins behind its markup. */
  call(): void {
    this.#afterCall = true;
  }

  /** Thinking was said, whose tokens are no text of the answer. */
  skip(text: string): void {
    this.#locate(text, false);
  }

  /** The tokens of a text that is said now; those before it have said what they have to say. A token is given once. */
  take(text: string): LoggedToken[] {
    return this.#locate(text, true);
  }

  #locate(text: string, shown: boolean): LoggedToken[] {
    const raw = this.#tokens
      .map((token) => token.text)
      .join('')
      .slice(this.#said);
    const find = (part: string): number => (this.#afterCall ? raw.lastIndexOf(part) : raw.indexOf(part));
    const at = find(text);
    const bare = text.trimStart();
    const start = at < 0 ? find(bare) : at;
    if (start < 0) return [];
    this.#afterCall = false;
    const end = start + (at < 0 ? bare : text).length;
    // Of white space before a text a part may stand in front of a call that lies between.
    const space = at < 0 ? text.length - bare.length : 0;
    const near = Math.min(space, start - raw.slice(0, start).trimEnd().length);
    const spaces = this.#within(0, space - near);
    const taken = this.#within(start - near, end);
    this.#drop(end, shown ? taken : []);
    return [...spaces.filter((token) => !taken.includes(token)), ...taken];
  }

  /** Tokens that have a part between two places of the raw text, those that only begin a character there among them. */
  #within(from: number, to: number): LoggedToken[] {
    if (from >= to) return [];
    let end = -this.#said;
    return this.#tokens.flatMap(({ logged, text }, index) => {
      const begin = end;
      end += text.length;
      if (index === 0 && this.#shown) return [];
      const begins = text === '' && begin >= from && begin < to;
      return begins || (text !== '' && begin < to && end > from) ? [logged] : [];
    });
  }

  #drop(to: number, taken: readonly LoggedToken[]): void {
    let end = -this.#said;
    let whole = 0;
    for (const { text } of this.#tokens) {
      if (end + text.length > to) break;
      end += text.length;
      whole += 1;
    }
    const shown = whole === 0 && this.#shown;
    this.#tokens = this.#tokens.slice(whole);
    this.#said = to - end;
    const first = this.#tokens[0]?.logged;
    this.#shown = shown || (this.#said > 0 && first !== undefined && taken.includes(first));
  }
}
