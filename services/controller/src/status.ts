import type { LiveWorkers } from './controllers/workers/controller.ts';
import type { Outcome } from './controllers/placement/controller.ts';

/** What the leading controller says about the cluster; JSON under the key `status:controller`. */
export interface ControllerStatus {
  controller: string;
  epoch: number;
  action: Outcome['action'];
  reason: string;
  /** Share of (layer, expert) pairs that a live worker holds. */
  coverage: number;
  workers: { id: string; ackedEpoch: number; draining: boolean; held: number }[];
  /** Ids of workers that get nothing because they have another model or numerics class. */
  refused: string[];
  /** Milliseconds since the Unix epoch. */
  updatedMs: number;
}

/** Share of (layer, expert) pairs that at least one worker holds, 0 to 1. */
export function coverageOf(live: LiveWorkers): number {
  const { numLayers, numExperts } = live.workers[0] ?? { numLayers: 0, numExperts: 0 };
  if (numLayers * numExperts === 0) return 0;
  let covered = 0;
  for (let layer = 0; layer < numLayers; layer++) {
    const held = new Set<number>();
    for (const worker of live.workers) for (const expert of worker.holdings.get(layer) ?? []) held.add(expert);
    covered += held.size;
  }
  return covered / (numLayers * numExperts);
}

export function statusOf(controller: string, outcome: Outcome, live: LiveWorkers, nowMs: number): ControllerStatus {
  return {
    controller,
    epoch: outcome.epoch,
    action: outcome.action,
    reason: outcome.reason,
    coverage: coverageOf(live),
    workers: live.workers.map((worker) => ({
      id: worker.id,
      ackedEpoch: worker.ackedEpoch,
      draining: worker.draining,
      held: [...worker.holdings.values()].reduce((sum, experts) => sum + experts.size, 0),
    })),
    refused: live.foreign,
    updatedMs: nowMs,
  };
}
