import type { MemberInfos } from '../../store/worker-store.ts';

/** Members as they count: what Redis says of them, corrected by who else knows whether they live. */
export interface LiveMembers extends MemberInfos {
  /** Why members that Redis still has count as gone, by `kind/id`. */
  gone: ReadonlyMap<string, string>;
  /** Ids of workers that are said to live but that Redis does not know; they may still register. */
  expected: string[];
}

/** Decides which members live. */
export interface Liveness {
  judge(infos: MemberInfos): LiveMembers;
}

/** The leases in Redis alone, as outside Kubernetes. */
export const registryLiveness: Liveness = {
  judge: (infos) => ({ ...infos, gone: new Map(), expected: [] }),
};
