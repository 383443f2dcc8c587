const TRAILING_SPACE = /\s*$/;

/**
 * The text around tool calls. White space before and after a call is shown only between text and text: an answer
 * "text, blank line, call" has the text alone as its content.
 */
export class AnswerText {
  #space = '';
  #hasText = false;
  #hasCall = false;
  #afterCall = false;

  /** Whether what comes next begins a line, or follows a call. */
  get atLineStart(): boolean {
    if (this.#space !== '') return this.#space.endsWith('\n');
    return this.#afterCall || !this.#hasText;
  }

  /** Takes text and returns what may be shown of it and of what was kept before. */
  push(text: string): string {
    const kept = TRAILING_SPACE.exec(text)?.[0] ?? '';
    const said = text.slice(0, text.length - kept.length);
    if (said === '') {
      this.#space += kept;
      return '';
    }
    const before = this.#hasText || !this.#hasCall ? this.#space : '';
    const shown = this.#hasText || !this.#hasCall ? said : said.trimStart();
    this.#space = kept;
    this.#hasText = true;
    this.#afterCall = false;
    return before + shown;
  }

  /** A call stands here. */
  call(): void {
    this.#hasCall = true;
    this.#afterCall = true;
  }

  /** The text has ended: the white space at its end, unless a call was what it stood by. */
  finish(): string {
    const rest = this.#hasCall ? '' : this.#space;
    this.#space = '';
    return rest;
  }
}
