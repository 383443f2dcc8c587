import type { WorkloadPod } from '../../k8s/types.ts';
import type { RouterSignal, WorkerSignal } from '../signals.ts';
import type { Victim } from '../view.ts';
import { copiesWithout, haveRoom, type Reaches, soleExperts } from './reach.ts';

/** The ready pod that is best missed, by several criteria in order; each is the smaller the better. */
function leastMissed(pods: readonly WorkloadPod[], costs: (pod: WorkloadPod) => readonly number[]): string | null {
  const ranked = pods
    .map((pod) => ({ pod, ranks: [...costs(pod), -(pod.readyMs ?? pod.createdMs)] }))
    .sort((a, b) => {
      const at = a.ranks.findIndex((rank, index) => rank !== b.ranks[index]);
      return at === -1 ? (a.pod.name < b.pod.name ? -1 : 1) : (a.ranks[at] as number) - (b.ranks[at] as number);
    });
  return ranked[0]?.pod.name ?? null;
}

/**
 * The worker of a group that could go next: the one with fewest experts of its own, then the least loaded, then one beside
 * another of its group, then the youngest. None may go where the rest of the cluster has no room for all experts.
 */
export function expertVictim(
  pods: readonly WorkloadPod[],
  workers: readonly WorkerSignal[],
  reaches: Reaches,
): Victim | null {
  const byId = new Map(workers.map((worker) => [worker.id, worker]));
  const copies = copiesWithout(workers, new Set());
  const pod = leastMissed(pods, ({ name, node }) => {
    const worker = byId.get(name);
    const neighbours = pods.filter((other) => other.node === node).length;
    return [worker === undefined ? 0 : soleExperts(worker, copies), worker?.rowsPerSecond ?? 0, -neighbours];
  });
  if (pod === null) return null;
  const lost = copies.reduce((sum, count) => sum + (count === 0 ? 1 : 0), 0);
  if (copies.length === 0 || lost > 0) {
    const message = copies.length === 0 ? 'no worker has told what it holds' : `${lost} experts have no ready holder`;
    return { pod, block: { reason: 'coverage', message } };
  }
  const rest = workers.filter((worker) => worker.ready && worker.id !== pod);
  if (haveRoom(rest, reaches)) return { pod, block: null };
  const message = `without ${pod} the other ${rest.length} workers have no room for all experts that only they could load`;
  return { pod, block: { reason: 'memory', message } };
}

/** The router with fewest sequences; they move to the others. */
export function routerVictim(pods: readonly WorkloadPod[], routers: readonly RouterSignal[]): Victim | null {
  const byId = new Map(routers.map((router) => [router.id, router]));
  const pod = leastMissed(pods, ({ name }) => {
    const router = byId.get(name);
    return [router === undefined ? 0 : router.running + router.waiting];
  });
  return pod === null ? null : { pod, block: null };
}
