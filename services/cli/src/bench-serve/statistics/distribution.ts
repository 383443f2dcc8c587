/** Values that are kept as they are; more of them go into buckets. */
const EXACT = 100_000;
/** Width of a bucket: quantiles are off by half of it at most, 0.25 %. */
const GROWTH = Math.log(1.005);
/** Values below this many milliseconds share a bucket. */
const SMALLEST = 0.001;

/** Numbers of a report about one kind of time. All milliseconds; null without values. */
export interface DistributionSummary {
  count: number;
  mean: number | null;
  min: number | null;
  p50: number | null;
  p90: number | null;
  p95: number | null;
  p99: number | null;
  p999: number | null;
  max: number | null;
  /** Points of the cumulative distribution: value, share of values that are not larger. */
  cdf: [number, number][];
}

/** Shares at which the cumulative distribution is told: even, and finer towards the tail. */
const CDF_SHARES = [
  ...Array.from({ length: 50 }, (_, index) => index / 50),
  ...Array.from({ length: 10 }, (_, index) => 0.98 + index / 500),
  0.999,
  0.9999,
  1,
].filter((share, index, all) => index === 0 || share > (all[index - 1] as number));

/**
 * A collection of times in bounded memory: the first 100,000 exactly, then in buckets that grow by 0.5 %. Quantiles of exact
 * values interpolate between neighbours, as NumPy's default does.
 */
export class Distribution {
  #exact: number[] | null = [];
  #sorted = true;
  readonly #buckets = new Map<number, number>();
  #count = 0;
  #sum = 0;
  #min = Infinity;
  #max = -Infinity;

  /** Adds a time in milliseconds. */
  add(value: number): void {
    this.#count++;
    this.#sum += value;
    this.#min = Math.min(this.#min, value);
    this.#max = Math.max(this.#max, value);
    if (this.#exact === null) return this.#toBucket(value);
    this.#exact.push(value);
    this.#sorted = false;
    if (this.#exact.length <= EXACT) return;
    for (const each of this.#exact) this.#toBucket(each);
    this.#exact = null;
  }

  get count(): number {
    return this.#count;
  }

  get mean(): number | null {
    return this.#count === 0 ? null : this.#sum / this.#count;
  }

  /** Value below which a share of the values lies; null without values. */
  quantile(share: number): number | null {
    if (this.#count === 0) return null;
    if (share <= 0) return this.#min;
    if (share >= 1) return this.#max;
    return this.#exact === null ? this.#fromBuckets(share) : this.#fromExact(this.#exact, share);
  }

  summary(): DistributionSummary {
    const at = (share: number): number | null => this.quantile(share);
    const quantiles = { p50: at(0.5), p90: at(0.9), p95: at(0.95), p99: at(0.99), p999: at(0.999) };
    const cdf = CDF_SHARES.flatMap((share): [number, number][] => {
      const value = at(share);
      return value === null ? [] : [[value, share]];
    });
    return { count: this.#count, mean: this.mean, min: at(0), ...quantiles, max: at(1), cdf };
  }

  #toBucket(value: number): void {
    const bucket = value <= SMALLEST ? 0 : 1 + Math.floor(Math.log(value / SMALLEST) / GROWTH);
    this.#buckets.set(bucket, (this.#buckets.get(bucket) ?? 0) + 1);
  }

  #fromExact(values: number[], share: number): number {
    if (!this.#sorted) values.sort((a, b) => a - b);
    this.#sorted = true;
    const at = share * (values.length - 1);
    const low = Math.floor(at);
    const below = values[low] as number;
    const above = values[Math.min(low + 1, values.length - 1)] as number;
    return below + (above - below) * (at - low);
  }

  #fromBuckets(share: number): number {
    const rank = share * (this.#count - 1);
    let seen = 0;
    for (const bucket of [...this.#buckets.keys()].toSorted((a, b) => a - b)) {
      seen += this.#buckets.get(bucket) as number;
      if (seen > rank) {
        const middle = bucket === 0 ? SMALLEST : SMALLEST * Math.exp((bucket - 0.5) * GROWTH);
        return Math.min(this.#max, Math.max(this.#min, middle));
      }
    }
    return this.#max;
  }
}
