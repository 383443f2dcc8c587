import type { BenchServeResult } from './result.ts';

/** What a run ends with: 0 when it kept what was demanded, 1 when not, 130 when it was stopped. */
export function exitStatus(
  { partial, points }: Pick<BenchServeResult, 'partial' | 'points'>,
  demands: { maxFailures: number; minAttainment: number | null },
): { status: number; reason: string | null } {
  if (partial) return { status: 130, reason: null };
  for (const { label, requests, attainment } of points) {
    const ended = requests.succeeded + requests.failed;
    const failed = ended === 0 ? 0 : requests.failed / ended;
    if (ended === 0 || requests.succeeded === 0) return { status: 1, reason: `${label}: no request succeeded` };
    if (failed > demands.maxFailures)
      return {
        status: 1,
        reason: `${label}: ${requests.failed} of ${ended} requests failed; --max-failures allows more`,
      };
    if (demands.minAttainment !== null && (attainment ?? 1) < demands.minAttainment)
      return {
        status: 1,
        reason: `${label}: ${(100 * (attainment ?? 1)).toFixed(1)} % of the requests kept the objectives`,
      };
  }
  return { status: 0, reason: null };
}
