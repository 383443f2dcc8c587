import { fail } from '@guildhall/common';

/**
 * Token ids that one choice has generated, by position. It is what a stream is resumed from, so it holds ids and not
 * text: stop strings and parsers hold text back.
 */
export class TokenLog {
  readonly #ids: number[] = [];

  get length(): number {
    return this.#ids.length;
  }

  /** A copy, for a GenerateRequest. */
  ids(): number[] {
    return [...this.#ids];
  }

  /**
   * Takes the token at a position. False when that position is known already, as after a resume. Throws `integrity`
   * when a position is skipped or a known one has another id: the stream could not be continued truthfully.
   */
  append(index: number, id: number): boolean {
    if (index < this.#ids.length) {
      if (this.#ids[index] === id) return false;
      throw fail('integrity', `token ${index} came twice with different ids`);
    }
    if (index > this.#ids.length) throw fail('integrity', `expected token ${this.#ids.length}, got token ${index}`);
    this.#ids.push(id);
    return true;
  }
}
