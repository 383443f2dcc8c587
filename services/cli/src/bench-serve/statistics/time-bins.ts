/** Most bins that are kept; when there would be more, neighbours are joined. */
const MOST_BINS = 480;
const FIRST_WIDTH_MS = 250;

/** What happened in one span of time. */
export interface Bin {
  tokens: number;
  started: number;
  finished: number;
  failed: number;
  /** Most requests that were under way at once. */
  inFlight: number;
}

const emptyBin = (): Bin => ({ tokens: 0, started: 0, finished: 0, failed: 0, inFlight: 0 });

/** Counts over time in a bounded number of bins, however long it takes. */
export class TimeBins {
  #widthMs = FIRST_WIDTH_MS;
  #bins: Bin[] = [];

  /** Adds to a count at a time from the beginning. */
  add(atMs: number, what: Exclude<keyof Bin, 'inFlight'>): void {
    this.#at(atMs)[what]++;
  }

  /** Notes how many requests are under way. */
  level(atMs: number, inFlight: number): void {
    const bin = this.#at(atMs);
    bin.inFlight = Math.max(bin.inFlight, inFlight);
  }

  get widthMs(): number {
    return this.#widthMs;
  }

  get bins(): readonly Bin[] {
    return this.#bins;
  }

  #at(atMs: number): Bin {
    let index = Math.floor(Math.max(0, atMs) / this.#widthMs);
    while (index >= MOST_BINS) {
      this.#join();
      index = Math.floor(Math.max(0, atMs) / this.#widthMs);
    }
    // A quiet time has as many requests under way as the bin before it.
    while (this.#bins.length <= index) this.#bins.push({ ...emptyBin(), inFlight: this.#last });
    return this.#bins[index] as Bin;
  }

  /** Requests under way at the end of what is known; set by `level`. */
  #last = 0;

  /** Says how many are under way from now on. */
  settle(inFlight: number): void {
    this.#last = inFlight;
  }

  #join(): void {
    const joined: Bin[] = [];
    for (let index = 0; index < this.#bins.length; index += 2) {
      const a = this.#bins[index] as Bin;
      const b = this.#bins[index + 1] ?? emptyBin();
      joined.push({
        tokens: a.tokens + b.tokens,
        started: a.started + b.started,
        finished: a.finished + b.finished,
        failed: a.failed + b.failed,
        inFlight: Math.max(a.inFlight, b.inFlight),
      });
    }
    this.#bins = joined;
    this.#widthMs *= 2;
  }
}
