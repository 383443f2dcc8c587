import type { MemberEntry } from '@guildhall/common';
import type { ShrinkGuard } from '../k8s/types.ts';
import { readSignals } from './signals.ts';
import { lostWithout } from './tracker/reach.ts';

/**
 * Asked right before workers go: every expert must be held by a ready worker beside them at this instant, by what the workers say
 * they hold and not by their number. Routers hold no experts.
 */
export function coverageGuard(members: { members(): readonly MemberEntry[]; readonly stale: boolean }): ShrinkGuard {
  return (_deployment, pods) => {
    const { workers } = readSignals(members.members());
    const gone = new Set(pods);
    if (!workers.some(({ id }) => gone.has(id))) return null;
    if (members.stale) return 'Redis is away: who holds what is not known';
    const lost = lostWithout(workers, gone);
    return lost === 0 ? null : `${lost} experts would be without a ready worker`;
  };
}
