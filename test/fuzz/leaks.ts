/** A count or an amount, and how many requests there had been. */
export interface Sample {
  requests: number;
  value: number;
}

/** Least squares: how much `value` grows with each request. Needs two samples at different counts. */
export function slopeOf(samples: readonly Sample[]): number {
  const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
  const x = mean(samples.map(({ requests }) => requests));
  const y = mean(samples.map(({ value }) => value));
  const above = samples.reduce((sum, { requests, value }) => sum + (requests - x) * (value - y), 0);
  const below = samples.reduce((sum, { requests }) => sum + (requests - x) ** 2, 0);
  if (below === 0) throw new TypeError('a slope needs samples at different counts');
  return above / below;
}

/**
 * How much `value` grows with each request, whatever single samples add: the median of the slopes between all pairs of
 * samples (Theil and Sen), which a few samples beside the line do not move.
 */
export function growthOf(samples: readonly Sample[]): number {
  const slopes = samples
    .flatMap((one, i) => samples.slice(i + 1).map((other) => slopeOf([one, other])))
    .toSorted((a, b) => a - b);
  const middle = slopes[Math.floor(slopes.length / 2)];
  if (middle === undefined) throw new TypeError('growth needs two samples');
  return middle;
}
