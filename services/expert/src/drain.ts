import { type Clock, type Cluster, LEASE_MS, type MemberEntry } from '@guildhall/common';
import { control } from '@guildhall/proto';
import { readAssignment } from './placement.ts';

export interface DrainOptions {
  id: string;
  fingerprint: string;
  numericsId: string;
  cluster: Pick<Cluster, 'members' | 'placements'>;
  limitMs: number;
  clock: Clock;
}

/**
 * How a drain ended: nobody needs the worker (`served`), no router of its model is left (`unused`), no other worker is left
 * to take over (`alone`), nobody places experts because there is no controller or Redis is away (`uncontrolled`), or the
 * limit came first, because the others have no room or load slowly (`late`).
 */
export type DrainEnd = 'served' | 'unused' | 'alone' | 'uncontrolled' | 'late';

const CHECK_MS = 200;
/** Another controller takes over within a lease. */
const UNCONTROLLED_MS = LEASE_MS + 2000;

/** What the members say that matters to one of them that wants to leave. */
interface Neighbours {
  /** Epochs that the routers of the model have acknowledged. */
  routers: number[];
  /** Workers of the model that stay. */
  workers: number;
  controllers: number;
}

/**
 * Waits until the worker may go: a newer epoch gives it nothing and every router of its model plans with that, or there is
 * no point in waiting.
 */
export async function waitDrained(options: DrainOptions): Promise<DrainEnd> {
  const { clock, cluster, limitMs } = options;
  const endMs = clock.monotonicMs() + limitMs;
  let controlledMs = clock.monotonicMs();
  // A router that has just joined may be a router that needs this worker.
  await cluster.members.refresh();
  while (clock.monotonicMs() < endMs) {
    const { members, placements } = cluster;
    if (!members.stale) {
      const around = neighboursOf(members.members(), options);
      if (around.routers.length === 0) return 'unused';
      const placement = placements.current();
      if (placement === null || isServed(placement, around, options.id)) return 'served';
      if (around.workers === 0) return 'alone';
      if (around.controllers > 0) controlledMs = clock.monotonicMs();
    }
    if (clock.monotonicMs() - controlledMs >= UNCONTROLLED_MS) return 'uncontrolled';
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
  const around: Neighbours = { routers: [], workers: 0, controllers: 0 };
  for (const { kind, id: other, value } of members) {
    if (kind === 'controller') around.controllers += 1;
    if (kind !== 'router' && kind !== 'expert') continue;
    const member = control.Member.decode(value);
    if (member.modelFingerprint !== fingerprint || member.numericsId !== numericsId) continue;
    if (kind === 'router') around.routers.push(Number(member.ackedEpoch));
    else if (other !== id && !member.draining) around.workers += 1;
  }
  return around;
}
