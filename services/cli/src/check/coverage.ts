import { control } from '@guildhall/proto';
import type { ClusterSnapshot } from '../stack/cluster-view.ts';

/** Who holds the experts of a cluster. */
export interface CoverageFacts {
  epoch: number;
  /** (layer, expert) pairs that the placement knows, and those of them that a live worker holds. */
  experts: number;
  held: number;
  /** Live workers, and routers that have all experts themselves. */
  workers: number;
  localRouters: number;
  /** Up to five pairs without a holder, as layer/expert. */
  missing: string[];
  /** Redis was away: these are facts of the past. */
  stale: boolean;
}

const SHOWN = 5;

/** What the members hold of what the placement knows, from one look at the cluster. */
export function coverageOf({ members, placement, stale }: ClusterSnapshot): CoverageFacts {
  const workers = members.filter(({ kind }) => kind === control.MemberKind.MEMBER_KIND_EXPERT);
  const locals = members.filter(
    ({ kind, holdings }) => kind === control.MemberKind.MEMBER_KIND_ROUTER && holdings.length > 0,
  );
  const holders = new Set(
    workers.flatMap(({ holdings }) => holdings.flatMap(({ layer, experts }) => experts.map((e) => `${layer}/${e}`))),
  );
  const pairs = (placement?.layers ?? []).flatMap(({ layer, counts }) =>
    counts.map((_, expert) => `${layer}/${expert}`),
  );
  const missing = pairs.filter((pair) => !holders.has(pair));
  return {
    epoch: Number(placement?.epoch ?? 0n),
    experts: pairs.length,
    held: pairs.length - missing.length,
    workers: workers.length,
    localRouters: locals.length,
    missing: missing.slice(0, SHOWN),
    stale,
  };
}

/** Why a cluster is not covered; null when every expert has a live holder. */
export function coverageProblem(facts: CoverageFacts): string | null {
  if (facts.stale) return 'Redis does not answer';
  if (facts.experts === 0) return facts.localRouters > 0 ? null : 'there is no placement yet';
  if (facts.missing.length === 0) return null;
  return `${facts.experts - facts.held} of ${facts.experts} experts have no live worker: ${facts.missing.join(', ')}`;
}
