import {
  type Assignment,
  costOf,
  eplb,
  type PlanCost,
  type PlanInput,
  planPlacement,
} from '@guildhall/controller/placement';
import { type GateTrace, loadsOf, tokensOf } from './gate-trace.ts';

/** A cluster of equal workers, and what things cost in it. */
export interface Cluster {
  numWorkers: number;
  /** Copies of a layer's experts that fit into all workers together; the same number in each. */
  replicas: number;
  expertBytes: number;
  usPerRow: number;
  usPerMessage: number;
  batchTokens: number;
  weights: PlanInput['weights'];
}

/** What the planner is told: the cluster, and what was seen of the traffic. */
export function inputOf(cluster: Cluster, trace: GateTrace, current: Assignment | null): PlanInput {
  const { numLayers, numExperts, topK } = trace;
  const { expertBytes, usPerRow, usPerMessage, batchTokens, weights } = cluster;
  const memoryBytes = numLayers * (cluster.replicas / cluster.numWorkers) * expertBytes;
  return {
    numLayers,
    numExperts,
    topK,
    expertBytes,
    workers: idsOf(cluster).map((id) => ({
      id,
      memoryBytes,
      usPerRow,
      usPerMessage,
      numericsId: 'any',
      failureDomain: '',
      draining: false,
      can: null,
    })),
    loads: loadsOf(trace),
    samples: trace.layers,
    batchTokens,
    current,
    held: () => false,
    minReplicas: 1,
    maxReplicas: cluster.numWorkers,
    allowMixedNumerics: false,
    weights,
  };
}

function idsOf({ numWorkers }: Cluster): string[] {
  return Array.from({ length: numWorkers }, (_, worker) => `expert-${String(worker).padStart(3, '0')}`);
}

/** Our plan. @throws Error if there is none. */
export function ours(cluster: Cluster, trace: GateTrace, current: Assignment | null): Assignment {
  const result = planPlacement(inputOf(cluster, trace, current));
  if (result.kind === 'short') throw new Error(result.why);
  return result.assignment;
}

/** Plain EPLB by load alone, each layer for itself; a second copy that it puts on the same worker is none. */
export function plainEplb(cluster: Cluster, trace: GateTrace): Assignment {
  const { numExperts, numLayers } = trace;
  const { replicas, numWorkers } = cluster;
  const loads = loadsOf(trace);
  const holders = Array.from({ length: numLayers }, (_, layer) => {
    const on: number[][] = Array.from({ length: numExperts }, () => []);
    const ofLayer = [...loads.subarray(layer * numExperts, (layer + 1) * numExperts)];
    for (const [place, expert] of eplb(ofLayer, { replicas, groups: 1, nodes: 1, gpus: numWorkers }).entries()) {
      const worker = Math.floor((place * numWorkers) / replicas);
      if (on[expert]?.includes(worker) === false) on[expert].push(worker);
    }
    return on;
  });
  return { workers: idsOf(cluster), holders };
}

/** One copy of each expert, by its number. */
export function roundRobin(cluster: Cluster, { numExperts, numLayers }: GateTrace): Assignment {
  const holders = Array.from({ length: numLayers }, () =>
    Array.from({ length: numExperts }, (_, expert) => [expert % cluster.numWorkers]),
  );
  return { workers: idsOf(cluster), holders };
}

/** What an assignment came to for tokens that it was not planned with. */
export interface Outcome extends PlanCost {
  /** Microseconds of the slowest worker of each layer and step, summed over the layers, mean over the steps. */
  replayedUs: number;
  /** The same, and the price of the workers per token. */
  timeUs: number;
}

/** Replays a trace over an assignment, step by step. Bytes are counted from `current`. */
export function replay(
  cluster: Cluster,
  trace: GateTrace,
  assignment: Assignment,
  current: Assignment | null,
): Outcome {
  const cost = costOf(inputOf(cluster, trace, current), assignment);
  const { batchTokens } = cluster;
  const steps = Math.max(1, Math.floor(tokensOf(trace) / batchTokens));
  let totalUs = 0;
  for (const [layer, sets] of trace.layers.entries()) {
    const size = batchTokens * trace.topK;
    for (let step = 0; step < steps; step++) {
      totalUs += slowestUs(cluster, assignment.holders[layer] ?? [], sets.subarray(step * size, (step + 1) * size));
    }
  }
  const replayedUs = totalUs / steps;
  const wireUs = cluster.weights.usPerExtraWorker * trace.numLayers * cost.workersPerToken;
  return { ...cost, replayedUs, timeUs: replayedUs + wireUs };
}

/** Microseconds of the slowest worker for the rows of one step; rows are split evenly between holders. */
function slowestUs(cluster: Cluster, holders: readonly (readonly number[])[], experts: Uint16Array): number {
  const rows = new Float64Array(cluster.numWorkers);
  for (const expert of experts) {
    const on = holders[expert] ?? [];
    for (const worker of on) rows[worker] = (rows[worker] as number) + 1 / on.length;
  }
  let most = 0;
  for (const count of rows) if (count > 0) most = Math.max(most, cluster.usPerMessage + count * cluster.usPerRow);
  return most;
}
