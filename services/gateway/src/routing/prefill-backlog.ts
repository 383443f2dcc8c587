import type { Clock } from '@guildhall/common';

/** Used where a router has not measured its rate yet. */
export const UNMEASURED_MS_PER_TOKEN = 1;

/** Tokens of one request in a backlog. */
export interface Addition {
  tokens: number;
  /** Tokens that were added since the last report, with these. */
  upTo: number;
  /** Number of the last report before. */
  report: number;
}

/**
 * Prompt tokens that wait in a router, between its reports: what it reported, plus what was sent since, less what it
 * computes meanwhile at its measured rate. A router is taken to compute prompts in the order in which they come.
 */
export class PrefillBacklog {
  readonly #clock: Clock;
  #tokens = 0;
  #atMs: number;
  #msPerToken = UNMEASURED_MS_PER_TOKEN;
  #reports = 0;
  #added = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#atMs = clock.monotonicMs();
  }

  /** Tokens that wait now. */
  get tokens(): number {
    const nowMs = this.#clock.monotonicMs();
    this.#tokens = Math.max(0, this.#tokens - (nowMs - this.#atMs) / this.#msPerToken);
    this.#atMs = nowMs;
    return this.#tokens;
  }

  /** The router has told; `msPerToken` is 0 while it has not measured. */
  report(tokens: number, msPerToken: number): void {
    this.#tokens = tokens;
    this.#atMs = this.#clock.monotonicMs();
    this.#msPerToken = msPerToken > 0 ? msPerToken : UNMEASURED_MS_PER_TOKEN;
    this.#reports += 1;
    this.#added = 0;
  }

  /** A request with so many tokens to compute was sent. */
  add(tokens: number): Addition {
    this.#tokens = this.tokens + tokens;
    this.#added += tokens;
    return { tokens, upTo: this.#added, report: this.#reports };
  }

  /** Its tokens are computed, and with them what came before. A report since then knows better. */
  done({ upTo, report }: Addition): void {
    if (report === this.#reports) this.#tokens = Math.min(this.tokens, this.#added - upTo);
  }

  /** It ended before they were computed. */
  remove({ tokens, report }: Addition): void {
    if (report === this.#reports) this.#tokens = Math.max(0, this.tokens - tokens);
  }
}
