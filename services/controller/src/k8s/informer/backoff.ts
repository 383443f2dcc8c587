/** Waits between failures: doubled each time up to a cap, each with jitter so that many clients do not return together. */
export class Backoff {
  readonly #firstMs: number;
  readonly #capMs: number;
  readonly #random: () => number;
  #failures = 0;

  /** The values are those of client-go's reflectors. */
  constructor(random: () => number = Math.random, firstMs = 800, capMs = 30_000) {
    this.#firstMs = firstMs;
    this.#capMs = capMs;
    this.#random = random;
  }

  /** Time to wait after one more failure, in ms: between half of the step and the whole, and at least `atLeastMs`. */
  next(atLeastMs = 0): number {
    const step = Math.min(this.#capMs, this.#firstMs * 2 ** this.#failures);
    this.#failures = Math.min(this.#failures + 1, 30);
    // What the server asks for is spread upwards: nobody comes before it.
    if (atLeastMs > step) return atLeastMs * (1 + 0.2 * this.#random());
    return Math.max(atLeastMs, step * (0.5 + 0.5 * this.#random()));
  }

  /** It went well. */
  reset(): void {
    this.#failures = 0;
  }
}
