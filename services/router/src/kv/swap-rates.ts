/** Which way bytes go: out of the pool, or back into it. */
export type SwapDirection = 'out' | 'in';

/** What is assumed before anything was measured: 1 GB/s, with the weight of a mebibyte. */
const PRIOR_BYTES = 1 << 20;
const PRIOR_MS = PRIOR_BYTES / 1e6;
/** Weight of a transfer decays by this with each newer one. */
const DECAY = 0.9;

/** Measured speed of copies between the pool and the lower tiers, each way. */
export class SwapRates {
  readonly #sums: Record<SwapDirection, { bytes: number; ms: number }> = {
    out: { bytes: PRIOR_BYTES, ms: PRIOR_MS },
    in: { bytes: PRIOR_BYTES, ms: PRIOR_MS },
  };

  observe(direction: SwapDirection, bytes: number, ms: number): void {
    const sum = this.#sums[direction];
    sum.bytes = sum.bytes * DECAY + bytes;
    sum.ms = sum.ms * DECAY + ms;
  }

  /** Expected milliseconds of moving `bytes`. */
  predict(direction: SwapDirection, bytes: number): number {
    const { bytes: moved, ms } = this.#sums[direction];
    return (bytes * ms) / moved;
  }
}
