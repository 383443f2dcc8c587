import { type Clock, type Cluster, LEASE_MS, type MemberEntry, RENEW_MS } from '@guildhall/common';
import { control } from '@guildhall/proto';
import { readAssignment } from './placement.ts';

export interface DrainOptions {
  id: string;
  fingerprint: string;
  numericsId: string;
  cluster: Pick<Cluster, 'members' | 'placements'>;
  limitMs: number;
  /**
   * Wait for the routers to end where nobody can take over: on Kubernetes, where the routers of a model that is replaced end
   * as well, and where the streams that they have left need this worker.
   */
  untilRoutersEnd: boolean;
  clock: Clock;
}

/**
 * How a drain ended: nobody needs the worker (`served`), no router of its model is left (`unused`), no other worker is left
 * to take over (`alone`), nobody places experts because there is no controller or Redis is away (`uncontrolled`), or the
 * limit came first, because the others have no room or load slowly, or because routers still have streams (`late`).
 */
export type DrainEnd = 'served' | 'unused' | 'alone' | 'uncontrolled' | 'late';

const CHECK_MS = 200;
/** Another controller takes over within a lease. */
const UNCONTROLLED_MS = LEASE_MS + 2000;

/** What routers say of their streams is at most so old: one that says nothing of them for longer has none. */
const IDLE_MS = RENEW_MS + 500;

/** What the members say that matters to one of them that wants to leave. */
interface Neighbours {
  /** Epochs that the routers of the model have acknowledged. */
  routers: number[];
  /** Routers of the model that have streams, or that are about to end. */
  busy: number;
  /** Workers of the model that stay. */
  workers: number;
  controllers: number;
}

/**
 * Waits until the worker may go: a newer epoch gives it nothing and every router of its model plans with that, or there is
 * no point in waiting. Where nobody can take its experts over, it stays for the streams that routers have, up to the limit.
 */
export async function waitDrained(options: DrainOptions): Promise<DrainEnd> {
  const { clock, cluster, limitMs, untilRoutersEnd } = options;
  const startMs = clock.monotonicMs();
  let controlledMs = startMs;
  let busyMs = startMs;
  // A router that has just joined may be a router that needs this worker.
  await cluster.members.refresh();
  while (clock.monotonicMs() < startMs + limitMs) {
    const { members, placements } = cluster;
    const around = neighboursOf(members.members(), options);
    if (around.busy > 0 || (untilRoutersEnd && around.routers.length > 0)) busyMs = clock.monotonicMs();
    const needed = clock.monotonicMs() - busyMs < IDLE_MS;
    if (!members.stale) {
      if (around.routers.length === 0) return 'unused';
      const placement = placements.current();
      if (placement === null || isServed(placement, around, options.id)) return 'served';
      if (around.workers === 0 && !needed) return 'alone';
      if (around.controllers > 0) controlledMs = clock.monotonicMs();
    }
    if (!needed && clock.monotonicMs() - controlledMs >= UNCONTROLLED_MS) return 'uncontrolled';
    await clock.sleep(CHECK_MS);
  }
  return 'late';
}

function isServed(
  { epoch, bytes }: { epoch: number; bytes: Uint8Array },
  { routers }: Neighbours,
  id: string,
): boolean {
  return routers.every((acked) => acked >= epoch) && readAssignment(bytes, id).experts.size === 0;
}

function neighboursOf(members: readonly MemberEntry[], { id, fingerprint, numericsId }: DrainOptions): Neighbours {
  const around: Neighbours = { routers: [], busy: 0, workers: 0, controllers: 0 };
  for (const { kind, id: other, value } of members) {
    if (kind === 'controller') around.controllers += 1;
    if (kind !== 'router' && kind !== 'expert') continue;
    const member = control.Member.decode(value);
    if (member.modelFingerprint !== fingerprint || member.numericsId !== numericsId) continue;
    if (kind === 'router') {
      around.routers.push(Number(member.ackedEpoch));
      if (member.draining || member.running + member.waiting > 0) around.busy += 1;
    } else if (other !== id && !member.draining) around.workers += 1;
  }
  return around;
}
