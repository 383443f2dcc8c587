/**
 * How rows spread over workers, and what that costs in bytes and messages. Routing is taken as uniform: every set of k of
 * the E experts is as likely as any other, and each worker holds E/N of them. Trained gates are skewed, which lowers the
 * number of distinct workers and raises the load of the slowest one.
 */

/** How experts lie on workers. */
export interface Spread {
  numExperts: number;
  topK: number;
  workers: number;
  /** Copies of each expert, on different workers. */
  copies: number;
}

/**
 * Expected number of distinct workers that a token's row goes to. With one copy m = N [1 - C(E - E/N, k) / C(E, k)]. With
 * c copies a row joins workers that it goes to anyway: after j of them the next expert needs a new one with probability
 * C(N - j, c) / C(N, c).
 */
export function workersPerToken({ numExperts, topK, workers, copies }: Spread): number {
  if (workers <= 1) return workers;
  if (copies <= 1) return workers * (1 - missesAll(numExperts, numExperts / workers, topK));
  // Chance of each number of workers so far; the first expert always needs one.
  let chances = [0, 1];
  for (let expert = 1; expert < topK; expert++) {
    const next = Array.from({ length: chances.length + 1 }, () => 0);
    for (const [used, chance] of chances.entries()) {
      const isNew = noneAmong(workers, used, Math.min(copies, workers));
      next[used] = (next[used] ?? 0) + chance * (1 - isNew);
      next[used + 1] = (next[used + 1] ?? 0) + chance * isNew;
    }
    chances = next;
  }
  return chances.reduce((sum, chance, used) => sum + chance * used, 0);
}

/** Chance that `draws` different experts of `all` are none of `some`: C(all - some, draws) / C(all, draws). */
function missesAll(all: number, some: number, draws: number): number {
  let chance = 1;
  for (let i = 0; i < draws; i++) chance *= Math.max(0, (all - some - i) / (all - i));
  return chance;
}

/** Chance that none of `copies` different workers is among the `used` ones of `workers`. */
function noneAmong(workers: number, used: number, copies: number): number {
  let chance = 1;
  for (let i = 0; i < copies; i++) chance *= Math.max(0, (workers - used - i) / (workers - i));
  return chance;
}

/** Expected workers that at least one of `rows` rows goes to, where each goes to `perToken` of them. */
export function workersReached(workers: number, perToken: number, rows: number): number {
  if (workers <= 1) return workers;
  return workers * (1 - (1 - perToken / workers) ** rows);
}

/** Expected different experts among `entries` uniform choices out of `experts`. */
export function distinctExperts(experts: number, entries: number): number {
  if (experts <= 1) return Math.min(experts, entries);
  return experts * (1 - (1 - 1 / experts) ** entries);
}

/**
 * (row, expert) pairs of the slowest worker of a layer: the mean of rows x k / N plus the expected maximum of N draws
 * above it, sigma sqrt(2 ln N), but no more than all of them.
 */
export function slowestEntries({ topK, workers, copies }: Spread, rows: number): number {
  const all = rows * topK;
  if (workers <= 1) return all;
  const mean = all / workers;
  const deviation = Math.sqrt(mean * (1 - 1 / workers) * 2 * Math.log(workers));
  // Among copies the less loaded one is taken, which evens most of it out.
  return Math.min(all, mean + deviation / Math.max(1, copies));
}

/** Widths of what travels, bytes. */
export interface RowWidths {
  /** A row with what belongs to it, and what each of its entries adds. */
  out: number;
  outEntry: number;
  /** A row that comes back. */
  back: number;
}

/** Bytes of one token on one layer. With `exact` a row comes back for each expert, with `partial` one for each worker. */
export function tokenLayerBytes(
  perToken: number,
  topK: number,
  widths: RowWidths,
  combine: 'exact' | 'partial',
): { out: number; back: number } {
  return {
    out: perToken * widths.out + topK * widths.outEntry,
    back: (combine === 'exact' ? topK : perToken) * widths.back,
  };
}

/** Milliseconds for reading bytes and computing, which overlap in part: the 3/2-norm of the two. */
export function workMs(bytes: number, flops: number, on: { bytesPerSecond: number; flopsPerSecond: number }): number {
  const [reading, computing] = [bytes / on.bytesPerSecond, flops / on.flopsPerSecond];
  if (reading === 0 || computing === 0) return 1000 * (reading + computing);
  return 1000 * (reading ** OVERLAP + computing ** OVERLAP) ** (1 / OVERLAP);
}

/**
 * Exponent of the norm. bench/results/*-kernels.md: 16 rows take 1.5 times as long as one of the two alone would
 * (gemm-16/bf16), 32 rows of experts hardly longer than reading; 1.5 lies between.
 */
const OVERLAP = 1.5;
