import type { Assignment, PlanInput, PlanWeights, PlanWorker } from '../../placement/types.ts';
import type { WorkerInfo } from '../../store/worker-store.ts';
import type { Observed } from './observed.ts';

/** What the operator decides about placements. */
export interface PlanPolicy {
  minReplicas: number;
  maxReplicas: number;
  weights: PlanWeights;
}

/** Tokens of a step, and experts of a token, before a router has reported what they are. */
const STEP_TOKENS = 32;
const TOP_K = 8;

/** What the planner is asked. `current` is what is in force. */
export function planInput(observed: Observed, current: Assignment | null, policy: PlanPolicy): PlanInput {
  const { live, measured } = observed;
  const { numLayers, numExperts } = live.workers[0] ?? { numLayers: 0, numExperts: 0 };
  const size = numLayers * numExperts;
  const byId = new Map(live.workers.map((worker) => [worker.id, worker]));
  const topK = measured.topK > 0 ? measured.topK : Math.min(TOP_K, numExperts);
  return {
    numLayers,
    numExperts,
    topK,
    // The largest, where workers differ, so that what is planned fits everywhere.
    expertBytes: Math.max(0, ...live.workers.map((worker) => worker.expertBytes)),
    workers: live.workers.map((worker) => planWorker(worker, observed)),
    loads: measured.tokens.length === size ? measured.tokens : new Float64Array(size),
    samples: measured.sets.length === numLayers ? measured.sets : null,
    batchTokens: measured.tokensPerStep > 0 ? Math.max(1, Math.round(measured.tokensPerStep)) : STEP_TOKENS,
    current,
    held: (worker, layer, expert) => byId.get(worker)?.holdings.get(layer)?.has(expert) === true,
    minReplicas: policy.minReplicas,
    maxReplicas: Math.max(policy.minReplicas, policy.maxReplicas),
    allowMixedNumerics: false,
    weights: policy.weights,
  };
}

function planWorker(worker: WorkerInfo, { draining, speeds, stalled }: Observed): PlanWorker {
  const { id, capacityBytes, failureDomain, numericsId } = worker;
  const { usPerRow, usPerMessage } = speeds.get(id) ?? { usPerRow: 0, usPerMessage: 0 };
  return {
    id,
    memoryBytes: capacityBytes,
    usPerRow,
    usPerMessage,
    numericsId,
    failureDomain,
    draining: draining.has(id),
    can: canOf(worker, stalled.has(id)),
  };
}

/** What a worker can be given: what it has the files of, and no more than it holds once it failed to load. */
function canOf({ loadable, holdings }: WorkerInfo, stalled: boolean): PlanWorker['can'] {
  const known = stalled ? holdings : loadable;
  return known === null ? null : (layer, expert) => known.get(layer)?.has(expert) === true;
}
