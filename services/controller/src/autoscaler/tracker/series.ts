import type { Level } from '../view.ts';

interface Bucket {
  startMs: number;
  high: number;
}

/** Parts that a window is kept in; a window of five minutes has one for each evaluation. */
const BUCKETS = 240;
/** Share of the parts of a window that were not higher than what is taken for its height. */
const QUANTILE = 0.95;

/** One quantity over time: a weighted mean of late, and a high quantile of a window. */
export class Series {
  readonly #halfLifeMs: number;
  #buckets: Bucket[] = [];
  #mean: number | null = null;
  #atMs = 0;
  #firstMs = 0;
  /** The height of the window, until another value comes. */
  #high: number | null = null;

  constructor(halfLifeMs: number) {
    this.#halfLifeMs = halfLifeMs;
  }

  /** Takes a value; nothing is taken for NaN or infinity. */
  add(atMs: number, value: number, windowMs: number): void {
    if (!Number.isFinite(value)) return;
    if (this.#mean === null) {
      this.#mean = value;
      this.#firstMs = atMs;
    } else {
      const left = 2 ** (-Math.max(0, atMs - this.#atMs) / this.#halfLifeMs);
      this.#mean = this.#mean * left + value * (1 - left);
    }
    this.#atMs = atMs;
    this.#high = null;
    this.#fill(atMs, value, windowMs);
  }

  #fill(atMs: number, value: number, windowMs: number): void {
    const widthMs = Math.max(1, windowMs / BUCKETS);
    const last = this.#buckets.at(-1);
    if (last !== undefined && atMs - last.startMs < widthMs) last.high = Math.max(last.high, value);
    else this.#buckets.push({ startMs: atMs, high: value });
    const oldest = atMs - windowMs;
    const keep = this.#buckets.findIndex(({ startMs }) => startMs >= oldest);
    if (keep > 0) this.#buckets = this.#buckets.slice(keep);
  }

  /** Null before a value was taken. */
  get level(): Level | null {
    if (this.#mean === null) return null;
    this.#high ??= this.#quantile();
    return { now: this.#mean, high: Math.max(this.#mean, this.#high) };
  }

  #quantile(): number {
    const sorted = Float64Array.from(this.#buckets, ({ high }) => high).sort();
    return sorted[Math.min(sorted.length - 1, Math.floor(QUANTILE * sorted.length))] ?? 0;
  }

  /** Time between the first value and the last one, ms. */
  get spanMs(): number {
    return this.#mean === null ? 0 : this.#atMs - this.#firstMs;
  }

  /** When the last value came. */
  get atMs(): number {
    return this.#atMs;
  }
}
