import { timesOf } from './layer-times.ts';
import { prepare, type Problem } from './problem.ts';
import type { Assignment, PlanCost, PlanInput } from './types.ts';
import { workersPerToken } from './workers-per-token.ts';

/**
 * What an assignment is predicted to cost; docs/placement.md has the formulas. Copies on workers that are not in the
 * input count as absent. Bytes are counted from `input.current` and `input.held`.
 */
export function costOf(input: PlanInput, assignment: Assignment): PlanCost {
  return costIn(prepare(input), assignment);
}

/** The same for an input that has been prepared. */
export function costIn(problem: Problem, assignment: Assignment): PlanCost {
  const holders = liveHolders(problem, assignment);
  const counted = countedWorkers(problem, holders);
  let stepUs = 0;
  let imbalance = 0;
  let tokens = 0;
  for (const [layer, experts] of holders.entries()) {
    const times = timesOf(problem, layer, experts);
    const slowest = times.slowestUs();
    const total = counted.reduce((sum, worker) => sum + times.time(worker), 0);
    stepUs += slowest;
    imbalance += total > 0 ? (slowest * counted.length) / total : 1;
    tokens += workersPerToken(problem, layer, experts);
  }
  const layers = Math.max(1, holders.length);
  return {
    stepUs,
    imbalance: imbalance / layers,
    workersPerToken: tokens / layers,
    bytesMoved: copiesMoved(problem, holders) * problem.input.expertBytes,
    ...leastOf(problem, holders),
  };
}

/** Holders by the problem's worker numbers, those that are gone left out. */
export function liveHolders(problem: Problem, assignment: Assignment): number[][][] {
  const place = assignment.workers.map((id) => problem.indexOf.get(id) ?? -1);
  return Array.from({ length: problem.numLayers }, (_, layer) =>
    Array.from({ length: problem.numExperts }, (__, expert) =>
      (assignment.holders[layer]?.[expert] ?? []).map((index) => place[index] ?? -1).filter((worker) => worker !== -1),
    ),
  );
}

/** Workers that the mean time is taken over: those with experts, and those of their numerics classes that could have some. */
function countedWorkers({ workers, numerics }: Problem, holders: number[][][]): number[] {
  const used = new Set(holders.flat(2));
  const classes = new Set([...used].map((worker) => numerics[worker]));
  return workers
    .map((_, worker) => worker)
    .filter((worker) => used.has(worker) || (workers[worker]?.draining === false && classes.has(numerics[worker])));
}

/** Tells which copies are in place, by the problem's worker numbers. */
export function inPlace(problem: Problem): (worker: number, layer: number, expert: number) => boolean {
  const { input, workers } = problem;
  const current = input.current === null ? null : liveHolders(problem, input.current);
  return (worker, layer, expert) =>
    current?.[layer]?.[expert]?.includes(worker) === true || input.held(workers[worker]?.id ?? '', layer, expert);
}

function copiesMoved(problem: Problem, holders: number[][][]): number {
  const placed = inPlace(problem);
  let moved = 0;
  for (const [layer, experts] of holders.entries()) {
    for (const [expert, workers] of experts.entries()) {
      for (const worker of workers) if (!placed(worker, layer, expert)) moved += 1;
    }
  }
  return moved;
}

function leastOf({ domain }: Problem, holders: number[][][]): { leastCopies: number; leastDomains: number } {
  let leastCopies = Infinity;
  let leastDomains = Infinity;
  for (const workers of holders.flat()) {
    leastCopies = Math.min(leastCopies, workers.length);
    leastDomains = Math.min(leastDomains, new Set(workers.map((worker) => domain[worker])).size);
  }
  if (leastCopies === Infinity) return { leastCopies: 0, leastDomains: 0 };
  return { leastCopies, leastDomains };
}
