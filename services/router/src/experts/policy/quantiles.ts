/** Buckets per doubling: neighbours differ by 9 %. */
const PER_DOUBLING = 8;
/** Doublings below and above 1 that are told apart. */
const DOUBLINGS = 10;
const BUCKETS = 2 * DOUBLINGS * PER_DOUBLING;
/** Weight at which everything is halved: what is old fades. */
const FULL = 1024;

/** Quantiles of positive numbers around 1, of which the older count less and less. */
export class FadingQuantiles {
  readonly #weights = new Float64Array(BUCKETS);
  #total = 0;

  /** Weight of what was seen. */
  get weight(): number {
    return this.#total;
  }

  add(value: number): void {
    const exact = (Math.log2(Math.max(value, Number.MIN_VALUE)) + DOUBLINGS) * PER_DOUBLING;
    const bucket = Math.min(BUCKETS - 1, Math.max(0, Math.floor(exact)));
    this.#weights[bucket] = (this.#weights[bucket] as number) + 1;
    this.#total += 1;
    if (this.#total < FULL) return;
    for (let i = 0; i < BUCKETS; i++) this.#weights[i] = (this.#weights[i] as number) / 2;
    this.#total /= 2;
  }

  /** Upper bound of the bucket that quantile `q` falls in; 1 when nothing was seen. */
  at(q: number): number {
    if (this.#total === 0) return 1;
    let above = this.#total * (1 - q);
    for (let i = BUCKETS - 1; i >= 0; i--) {
      above -= this.#weights[i] as number;
      if (above < 0) return 2 ** ((i + 1) / PER_DOUBLING - DOUBLINGS);
    }
    return 2 ** -DOUBLINGS;
  }
}
