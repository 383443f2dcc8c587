/** Value below which a share of the values lies; NaN without values. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? NaN;
}

export function mean(values: readonly number[]): number {
  return values.length === 0 ? 0 : values.reduce((sum, value) => sum + value, 0) / values.length;
}

/** One number for each bin of time. */
export class TimeSeries {
  readonly binMs: number;
  readonly #bins: number[] = [];

  constructor(binMs: number) {
    this.binMs = binMs;
  }

  add(atMs: number, count = 1): void {
    const bin = this.#binOf(atMs);
    this.#bins[bin] = (this.#bins[bin] as number) + count;
  }

  atLeast(atMs: number, value: number): void {
    const bin = this.#binOf(atMs);
    this.#bins[bin] = Math.max(this.#bins[bin] as number, value);
  }

  /** Values of the bins that lie within [fromMs, toMs). */
  between(fromMs: number, toMs: number): { atMs: number; value: number }[] {
    const values: { atMs: number; value: number }[] = [];
    for (let bin = Math.ceil(fromMs / this.binMs); (bin + 1) * this.binMs <= toMs; bin++) {
      values.push({ atMs: bin * this.binMs, value: this.#bins[bin] ?? 0 });
    }
    return values;
  }

  #binOf(atMs: number): number {
    const bin = Math.floor(atMs / this.binMs);
    while (this.#bins.length <= bin) this.#bins.push(0);
    return bin;
  }
}
