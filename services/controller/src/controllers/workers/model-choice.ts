import type { MemberInfos } from '../../store/worker-store.ts';

/** What all processes that serve one model share. */
export interface ModelIdentity {
  fingerprint: string;
  numericsId: string;
}

export function sameModel(a: ModelIdentity, b: ModelIdentity): boolean {
  return a.fingerprint === b.fingerprint && a.numericsId === b.numericsId;
}

function identityOf({ fingerprint, numericsId }: ModelIdentity): ModelIdentity {
  return { fingerprint, numericsId };
}

function mostCommon(candidates: readonly ModelIdentity[]): ModelIdentity | null {
  let best: ModelIdentity | null = null;
  let votes = 0;
  for (const candidate of candidates) {
    const count = candidates.filter((other) => sameModel(other, candidate)).length;
    if (count > votes) [best, votes] = [candidate, count];
  }
  return best === null ? null : identityOf(best);
}

/**
 * The model to place: the one that is placed now while any member has it, else the one of most routers, else the
 * one of most workers (the first by id among equals).
 */
export function chooseModel(
  served: ModelIdentity | null,
  { workers, routers }: Pick<MemberInfos, 'workers' | 'routers'>,
): ModelIdentity | null {
  if (served !== null && [...workers, ...routers].some((member) => sameModel(member, served)))
    return identityOf(served);
  return mostCommon(routers) ?? mostCommon(workers);
}
