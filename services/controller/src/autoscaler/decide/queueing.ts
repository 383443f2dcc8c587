/** Beyond this utilisation a queue has no steady state; what is above is compared by how far above it is. */
const SATURATED = 0.98;

/**
 * 95th percentile of the time that a step spends at a worker of this utilisation, over the time between two steps. Of steps that
 * find the worker free (1 - ρ of them) the time is the service S; the wait of the others is exponential with mean S / (1 - ρ)
 * (M/M/1), so that its 95th percentile is S / (1 - ρ) · ln(20 ρ). S over the time between two steps is ρ.
 */
export function stepTime(utilisation: number): number {
  const rho = Math.min(Math.max(0, utilisation), SATURATED);
  const time = rho * (1 + Math.max(0, Math.log(20 * rho)) / (1 - rho));
  return utilisation > SATURATED ? time * (utilisation / SATURATED) : time;
}
