interface Sums {
  n: number;
  x: number;
  y: number;
  xx: number;
  xy: number;
}

/** What is assumed before anything was read, and never quite forgotten: a plain SSD, 0.2 ms a file and 500 MB/s. */
const ASSUMED = [
  { bytes: 0, ms: 0.2 },
  { bytes: 1_000_000, ms: 2.2 },
];
/** Share of the past that one more file leaves. */
const MEMORY = 0.98;
/** No disk is faster: 10 GB/s. */
const LEAST_MS_PER_BYTE = 1 / 10_000_000;

/**
 * Time to read a file as a line over its size, fitted to those that were read lately. Time for each file and time for each
 * byte are kept apart: many small files say little about a large one.
 */
export class ReadCost {
  #seen: Sums = { n: 0, x: 0, y: 0, xx: 0, xy: 0 };
  #msPerFile = 0;
  #msPerByte = 0;

  constructor() {
    this.#fit();
  }

  /** Milliseconds for a file of `bytes`. */
  predictMs(bytes: number): number {
    return this.#msPerFile + this.#msPerByte * bytes;
  }

  observe(bytes: number, ms: number): void {
    const { n, x, y, xx, xy } = this.#seen;
    this.#seen = plus({ n: n * MEMORY, x: x * MEMORY, y: y * MEMORY, xx: xx * MEMORY, xy: xy * MEMORY }, bytes, ms);
    this.#fit();
  }

  #fit(): void {
    const { n, x, y, xx, xy } = ASSUMED.reduce((sums, { bytes, ms }) => plus(sums, bytes, ms), this.#seen);
    const slope = (n * xy - x * y) / (n * xx - x * x);
    this.#msPerByte = Math.max(LEAST_MS_PER_BYTE, slope);
    this.#msPerFile = Math.max(0, (y - this.#msPerByte * x) / n);
  }
}

function plus({ n, x, y, xx, xy }: Sums, bytes: number, ms: number): Sums {
  return { n: n + 1, x: x + bytes, y: y + ms, xx: xx + bytes * bytes, xy: xy + bytes * ms };
}
