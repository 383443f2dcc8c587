import type { Clock } from '@guildhall/common';

/** Used where a router has not measured its rate yet. */
const UNMEASURED_MS_PER_TOKEN = 1;

/**
 * Prompt tokens that wait in a router, between its reports: what it reported, plus what was sent since, less what it
 * computes meanwhile at its measured rate.
 */
export class PrefillBacklog {
  readonly #clock: Clock;
  #tokens = 0;
  #atMs = 0;
  #msPerToken = UNMEASURED_MS_PER_TOKEN;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#atMs = clock.monotonicMs();
  }

  /** Tokens that wait now. */
  get tokens(): number {
    this.#settle();
    return this.#tokens;
  }

  /** The router has told; `msPerToken` is 0 while it has not measured. */
  report(tokens: number, msPerToken: number): void {
    this.#tokens = tokens;
    this.#atMs = this.#clock.monotonicMs();
    this.#msPerToken = msPerToken > 0 ? msPerToken : UNMEASURED_MS_PER_TOKEN;
  }

  /** A request with so many tokens to compute was sent. */
  add(tokens: number): void {
    this.#settle();
    this.#tokens += tokens;
  }

  /** It ended before they were computed. */
  remove(tokens: number): void {
    this.#settle();
    this.#tokens = Math.max(0, this.#tokens - tokens);
  }

  #settle(): void {
    const nowMs = this.#clock.monotonicMs();
    this.#tokens = Math.max(0, this.#tokens - (nowMs - this.#atMs) / this.#msPerToken);
    this.#atMs = nowMs;
  }
}
