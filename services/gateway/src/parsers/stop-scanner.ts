import { heldLength } from './parser.ts';

interface Match {
  at: number;
  stop: string;
}

/**
 * Lets text through until a stop string appears in it, holding back what could be the beginning of one. The router
 * decides when a choice ends; this decides which of its text may be shown.
 */
export class StopScanner {
  readonly #stops: readonly string[];
  readonly #include: boolean;
  #held = '';
  #matched: string | null = null;

  /** `include`: keep the stop string itself in the text. */
  constructor(stops: readonly string[], include: boolean) {
    this.#stops = stops;
    this.#include = include;
  }

  /** The stop string that ended the text, if one did. */
  get matched(): string | null {
    return this.#matched;
  }

  /**
   * Takes the text of one token and returns what may be shown. With `mayStop` false, as before min_tokens, a stop
   * string that ends in this text does not count. After a match every call returns ''.
   */
  push(text: string, mayStop: boolean): string {
    if (this.#matched !== null) return '';
    const heldBefore = this.#held.length;
    this.#held += text;
    const match = mayStop ? this.#find(heldBefore) : null;
    if (match !== null) return this.#cut(match);
    const hold = this.#stops.reduce((most, stop) => Math.max(most, heldLength(this.#held, stop)), 0);
    const shown = this.#held.slice(0, this.#held.length - hold);
    this.#held = this.#held.slice(this.#held.length - hold);
    return shown;
  }

  /** The rest, when the choice has ended; `routerStop` is the stop string that the router ended it by, or ''. */
  finish(routerStop: string): string {
    if (this.#matched !== null) return '';
    const at = routerStop === '' ? -1 : this.#held.indexOf(routerStop);
    if (at >= 0) return this.#cut({ at, stop: routerStop });
    const shown = this.#held;
    this.#held = '';
    return shown;
  }

  /** The match that ends first, of those the longest, as routers decide it: it does not depend on how text was cut. */
  #find(heldBefore: number): Match | null {
    let best: Match | null = null;
    for (const stop of this.#stops) {
      const at = this.#held.indexOf(stop, Math.max(0, heldBefore - stop.length + 1));
      if (at < 0) continue;
      const later = best === null ? -1 : at + stop.length - (best.at + best.stop.length);
      if (later < 0 || (later === 0 && stop.length > (best?.stop.length ?? 0))) best = { at, stop };
    }
    return best;
  }

  #cut(match: Match): string {
    const shown = this.#held.slice(0, match.at + (this.#include ? match.stop.length : 0));
    this.#matched = match.stop;
    this.#held = '';
    return shown;
  }
}
