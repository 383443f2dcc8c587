import { fail } from '@guildhall/common';
import { type Assignment, planPlacement } from '@guildhall/controller/placement';
import type { ExpertShape, Assignment as ViewAssignment } from '@guildhall/router/scheduling';
import { Random } from '../kernel/random.ts';
import type { SyntheticGate } from '../model/gate.ts';
import type { ModelShape } from '../model/shape.ts';
import type { SimWorker } from './worker.ts';

/** What the gate was seen to choose. */
export interface GateStatistics {
  /** Tokens of each (layer, expert), [layer*numExperts+expert]. */
  loads: Float64Array;
  /** Sampled top-k sets of each layer, flat. */
  samples: Uint16Array[];
}

export interface PlannerOptions {
  shape: ModelShape;
  statistics: GateStatistics;
  minReplicas: number;
  maxReplicas: number;
  /** Tokens of a micro-batch, over all routers that compute at a time. */
  batchTokens: number;
}

/** The planner's weights, as the controller has them. */
const WEIGHTS = { threshold: 0.1, usPerExtraWorker: 5, usPerMovedMib: 0.01 };
/** Workers above which only what must be is planned: the search for something better would take minutes. */
const MOST_SEARCHED = 128;

/** Tokens that are seen before the first placement, and sets of them that are kept, in each layer. */
const SEEN = 2048;
const KEPT = 128;

/** Looks at some tokens of each layer. */
export function observeGate(gate: SyntheticGate, shape: ModelShape, seed: number): GateStatistics {
  const { numLayers, numExperts, topK } = shape;
  const random = new Random(seed, 'observed');
  const loads = new Float64Array(numLayers * numExperts);
  const sets = new Int32Array(SEEN * topK);
  const samples: Uint16Array[] = [];
  for (let layer = 0; layer < numLayers; layer++) {
    for (let token = 0; token < SEEN; token++) gate.draw(random, layer, random.below(1 << 20), sets, token * topK);
    for (const expert of sets) {
      const key = layer * numExperts + expert;
      loads[key] = (loads[key] as number) + 1;
    }
    samples.push(Uint16Array.from(sets.subarray(0, KEPT * topK)));
  }
  return { loads, samples };
}

/** The controller's own placement. Errors: `config_invalid` when the workers' memory cannot hold the experts. */
export function plan(options: PlannerOptions, workers: readonly SimWorker[], current: Assignment | null): Assignment {
  const { shape, statistics, minReplicas, maxReplicas, batchTokens } = options;
  const byId = new Map(workers.map((worker) => [worker.id, worker]));
  const classes = new Set(workers.map(({ kind }) => kind.numericsId));
  const result = planPlacement({
    numLayers: shape.numLayers,
    numExperts: shape.numExperts,
    topK: shape.topK,
    expertBytes: shape.expertBytes,
    workers: workers.map((worker) => planWorker(worker, batchTokens * shape.topK, workers.length, shape)),
    loads: statistics.loads,
    samples: statistics.samples,
    batchTokens,
    current,
    held: (id, layer, expert) => byId.get(id)?.held[layer * shape.numExperts + expert] === 1,
    minReplicas,
    maxReplicas,
    allowMixedNumerics: classes.size > 1,
    weights: workers.length > MOST_SEARCHED ? { ...WEIGHTS, threshold: Infinity } : WEIGHTS,
  });
  if (result.kind === 'planned') return result.assignment;
  throw fail('config_invalid', `the simulated workers are too small: ${result.why}`);
}

/** What a worker would have measured of itself: its time for its share of a step's rows. */
function planWorker(worker: SimWorker, stepEntries: number, numWorkers: number, { numExperts }: ModelShape) {
  const { usPerMessage, memoryBytes, numericsId } = worker.kind;
  const entries = Math.max(1, stepEntries / numWorkers);
  // As many different experts as so many draws among its share of a layer give.
  const share = Math.max(1, numExperts / numWorkers);
  const experts = share * (1 - (1 - 1 / share) ** entries);
  const us = 1000 * worker.messageMs({ entries, experts: Math.max(1, experts) });
  return {
    id: worker.id,
    memoryBytes,
    usPerRow: (us - usPerMessage) / entries,
    usPerMessage,
    numericsId,
    failureDomain: worker.failureDomain,
    draining: false,
    can: null,
  };
}

/** A placement as routers read it. */
export function viewAssignment({ workers, holders }: Assignment, epoch: number, shape: ExpertShape): ViewAssignment {
  const start = new Int32Array(shape.numLayers * shape.numExperts + 1);
  const list: number[] = [];
  for (const [key, held] of holders.flat().entries()) {
    list.push(...held);
    start[key + 1] = list.length;
  }
  return { epoch, ids: workers, start, list: Int32Array.from(list) };
}
