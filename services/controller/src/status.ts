import { coverageOf } from './controllers/coverage/controller.ts';
import type { Drain } from './controllers/drains/controller.ts';
import type { Outcome } from './controllers/placement/controller.ts';
import type { Observed } from './controllers/placement/observed.ts';
import type { KubernetesStatus } from './k8s/status.ts';
import type { PlacementRecord } from './store/placement-store.ts';

/** A worker as the controller sees it. */
export interface WorkerStatus {
  id: string;
  ackedEpoch: number;
  draining: boolean;
  /** Experts held. */
  held: number;
  /** Share of the measured tokens that the placement sends to it, and of the rows that all workers say they computed, 0 to 1. */
  loadPlanned: number;
  loadMeasured: number;
  usPerRow: number;
  /** Why it cannot load an expert; empty when nothing is wrong. */
  problem: string;
  /** It has not loaded for so long that others hold its share. */
  stalled: boolean;
}

/** What the leading controller says about the cluster; JSON under the key `status:controller`. */
export interface ControllerStatus {
  controller: string;
  epoch: number;
  action: Outcome['action'];
  reason: string;
  /** Share of (layer, expert) pairs that a live worker holds. */
  coverage: number;
  /** Busiest worker over the mean: as predicted when the epoch was made, and as measured since; null where unknown. */
  imbalance: { predicted: number | null; measured: number | null };
  /** Predicted microseconds of a step's experts; null where unknown. */
  stepUs: number | null;
  workers: WorkerStatus[];
  drains: Drain[];
  /** Workers that have yet to load something of the epoch. */
  loading: string[];
  /** Ids of workers that get nothing because they have another model or numerics class. */
  refused: string[];
  /** Ids of workers that Kubernetes calls ready and Redis does not know. */
  expected: string[];
  /** Null outside Kubernetes. */
  kubernetes: KubernetesStatus | null;
  /** Milliseconds since the Unix epoch. */
  updatedMs: number;
}

/** What a status is made from. */
export interface StatusFacts {
  controller: string;
  outcome: Outcome;
  observed: Observed;
  placement: PlacementRecord | null;
  drains: Drain[];
  kubernetes: KubernetesStatus | null;
  nowMs: number;
}

export function statusOf({
  controller,
  outcome,
  observed,
  placement,
  drains,
  kubernetes,
  nowMs,
}: StatusFacts): ControllerStatus {
  const { live, draining, stalled, loading } = observed;
  const planned = plannedLoads(observed, placement);
  const rows = (id: string): number => observed.measured.rowsOf.get(id) ?? 0;
  const total = live.workers.reduce((sum, { id }) => sum + rows(id), 0);
  const predicted = placement?.predicted ?? null;
  return {
    controller,
    epoch: outcome.epoch,
    action: outcome.action,
    reason: outcome.reason,
    coverage: coverageOf(live.workers),
    imbalance: { predicted: predicted?.imbalance ?? null, measured: measuredImbalance(observed) },
    stepUs: predicted?.stepUs ?? null,
    workers: live.workers.map(({ id, ackedEpoch, holdings, loadProblem }) => ({
      id,
      ackedEpoch,
      draining: draining.has(id),
      held: [...holdings.values()].reduce((sum, experts) => sum + experts.size, 0),
      loadPlanned: rounded(planned.get(id) ?? 0),
      loadMeasured: rounded(total > 0 ? rows(id) / total : 0),
      usPerRow: rounded(observed.speeds.get(id)?.usPerRow ?? 0),
      problem: loadProblem === null ? '' : `${loadProblem.code}: ${loadProblem.text}`,
      stalled: stalled.has(id),
    })),
    drains,
    loading,
    refused: live.foreign,
    expected: [...live.expected],
    kubernetes,
    updatedMs: nowMs,
  };
}

function rounded(value: number): number {
  return Math.round(value * 1000) / 1000;
}

/** Share of the measured tokens that falls to each worker, copies sharing evenly. */
function plannedLoads({ measured }: Observed, placement: PlacementRecord | null): ReadonlyMap<string, number> {
  const shares = new Map<string, number>();
  if (placement === null || measured.total <= 0) return shares;
  const { workers, holders } = placement.assignment;
  for (const [layer, experts] of holders.entries()) {
    for (const [expert, indexes] of experts.entries()) {
      const tokens = (measured.tokens[layer * experts.length + expert] ?? 0) / Math.max(1, indexes.length);
      for (const index of indexes) {
        const id = workers[index] ?? '';
        shares.set(id, (shares.get(id) ?? 0) + tokens / measured.total);
      }
    }
  }
  return shares;
}

/** Time that the busiest worker spent on rows over the mean of all that hold something; null before they have reported. */
export function measuredImbalance({ live, measured, speeds, draining }: Observed): number | null {
  const times = live.workers
    .filter(({ id, holdings }) => holdings.size > 0 && !draining.has(id))
    .map(({ id }) => (measured.rowsOf.get(id) ?? 0) * (speeds.get(id)?.usPerRow ?? 1));
  const mean = times.reduce((sum, time) => sum + time, 0) / Math.max(1, times.length);
  return mean > 0 ? rounded(Math.max(...times) / mean) : null;
}
