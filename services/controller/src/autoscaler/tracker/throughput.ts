/** Weight that a sample loses with each later one: about the last hundred count. */
const KEEP = 0.99;
/** Samples before anything is said. */
const LEAST = 3;
/** A sample with less than this share of work says nothing of how fast work is done. */
const LEAST_BUSY = 0.02;

/**
 * How many rows a second a replica computes when it does nothing else: the slope of a line through the origin, fitted by least
 * squares to (rows a second, share of the time that went into them), newer samples counting more.
 */
export class Throughput {
  #xx = 0;
  #xy = 0;
  #samples = 0;

  /** Takes what one replica did; `busy` without the part that does not grow with its rows. */
  observe(rowsPerSecond: number, busy: number): void {
    if (!(busy >= LEAST_BUSY) || !(rowsPerSecond > 0)) return;
    this.#xx = this.#xx * KEEP + rowsPerSecond * rowsPerSecond;
    this.#xy = this.#xy * KEEP + rowsPerSecond * busy;
    this.#samples += 1;
  }

  /** Rows a second; null before enough was measured. */
  get rowsPerReplica(): number | null {
    return this.#samples < LEAST || this.#xy <= 0 ? null : this.#xx / this.#xy;
  }
}
