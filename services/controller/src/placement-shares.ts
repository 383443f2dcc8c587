import type { PlacementRecord } from './store/placement-store.ts';
import type { WorkerInfo } from './store/worker-store.ts';

/** What a placement gives a worker. */
export interface Share {
  /** Experts that it is given, over all layers. */
  given: number;
  /** Those among them that it holds. */
  held: number;
}

/** Shares of these workers, by id; without a placement nothing is given. */
export function sharesOf(
  workers: readonly WorkerInfo[],
  placement: PlacementRecord | null,
): ReadonlyMap<string, Share> {
  const shares = new Map(workers.map(({ id }) => [id, { given: 0, held: 0 }]));
  if (placement === null) return shares;
  const byIndex = placement.assignment.workers.map((id) => shares.get(id));
  const byId = new Map(workers.map((worker) => [worker.id, worker]));
  const holdings = placement.assignment.workers.map((id) => byId.get(id)?.holdings);
  for (const [layer, experts] of placement.assignment.holders.entries()) {
    for (const [expert, holders] of experts.entries()) {
      for (const index of holders) {
        const share = byIndex[index];
        if (share === undefined) continue;
        share.given += 1;
        if (holdings[index]?.get(layer)?.has(expert) === true) share.held += 1;
      }
    }
  }
  return shares;
}
