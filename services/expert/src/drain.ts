import type { Clock, Cluster } from '@guildhall/common';
import { control } from '@guildhall/proto';
import { readAssignment } from './placement.ts';

export interface DrainOptions {
  id: string;
  cluster: Pick<Cluster, 'members' | 'placements'>;
  limitMs: number;
  clock: Clock;
}

const CHECK_MS = 100;

function servedElsewhere(id: string, cluster: DrainOptions['cluster']): boolean {
  const placement = cluster.placements.current();
  if (placement === null) return true;
  if (readAssignment(placement.bytes, id).experts.size > 0) return false;
  return cluster.members
    .members()
    .filter((member) => member.kind === 'router')
    .every((member) => Number(control.Member.decode(member.value).ackedEpoch) >= placement.epoch);
}

/**
 * Waits until a newer epoch gives this worker nothing and every router plans with it. False when the limit came
 * first: the others have no room, or there is no controller.
 */
export async function waitDrained(options: DrainOptions): Promise<boolean> {
  const endMs = options.clock.monotonicMs() + options.limitMs;
  while (options.clock.monotonicMs() < endMs) {
    if (servedElsewhere(options.id, options.cluster)) return true;
    await options.clock.sleep(CHECK_MS);
  }
  return false;
}
