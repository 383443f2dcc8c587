/** A router as the choice sees it. */
export interface Candidate {
  /** Requests that it runs or holds waiting, as far as is known here. */
  load: number;
  /** It failed a moment ago. */
  suspect: boolean;
}

/**
 * Power of two choices: the less loaded of two candidates drawn at random, so that many gateways that see the same
 * loads don't all run to the same router. Suspects are taken only when there is nobody else. Null when there is no
 * candidate. `random` returns a number in [0, 1).
 */
export function chooseRouter<T extends Candidate>(candidates: readonly T[], random: () => number): T | null {
  const trusted = candidates.filter((candidate) => !candidate.suspect);
  const pool = trusted.length > 0 ? trusted : candidates;
  const first = pool[Math.floor(random() * pool.length)];
  if (first === undefined || pool.length === 1) return first ?? null;
  const rest = pool.filter((candidate) => candidate !== first);
  const second = rest[Math.floor(random() * rest.length)];
  return second !== undefined && second.load < first.load ? second : first;
}
