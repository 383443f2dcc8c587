import type { Random } from '../../simulate/kernel/random.ts';

/** Shape of the times between two arrivals. */
export type ArrivalShape = 'poisson' | 'constant' | 'gamma';

/**
 * A draw from the gamma distribution with this shape and scale 1 (Marsaglia and Tsang, 2000; shapes below 1 through
 * shape + 1 and a uniform power).
 */
export function gammaDraw(random: Random, shape: number): number {
  if (shape < 1) return gammaDraw(random, shape + 1) * (1 - random.next()) ** (1 / shape);
  const d = shape - 1 / 3;
  const c = 1 / Math.sqrt(9 * d);
  for (;;) {
    const x = random.normal();
    const v = (1 + c * x) ** 3;
    if (v <= 0) continue;
    const u = 1 - random.next();
    if (Math.log(u) < 0.5 * x * x + d - d * v + d * Math.log(v)) return d * v;
  }
}

/** One time between two arrivals, in milliseconds, of mean 1000 / perSecond. `burstiness` counts for gamma only. */
export function gapMs(random: Random, shape: ArrivalShape, perSecond: number, burstiness: number): number {
  const meanMs = 1000 / perSecond;
  switch (shape) {
    case 'constant':
      return meanMs;
    case 'poisson':
      return random.exponential(meanMs);
    case 'gamma':
      return (gammaDraw(random, burstiness) / burstiness) * meanMs;
  }
}

/**
 * Times of arrival in milliseconds from the beginning, without end. The first one is drawn like the others, so that the rate
 * over the whole is unbiased; at a constant rate it is 0.
 */
export function* arrivalTimes(
  random: Random,
  shape: ArrivalShape,
  perSecond: number,
  burstiness: number,
): Generator<number, never> {
  // Counted, not summed: a sum of many equal gaps drifts.
  for (let index = 0, atMs = 0; ; index++) {
    if (shape === 'constant') atMs = (index * 1000) / perSecond;
    else atMs += gapMs(random, shape, perSecond, burstiness);
    yield atMs;
  }
}
