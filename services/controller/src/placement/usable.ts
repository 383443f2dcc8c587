import { liveHolders } from './cost.ts';
import { hasFiles, type Problem } from './problem.ts';

/** Who may get experts. */
export interface Usable {
  /** 1 for workers that take part, draining ones apart. */
  active: Uint8Array;
  /** 1 for draining workers of the same numerics classes, the last resort. */
  draining: Uint8Array;
}

/**
 * Chooses the workers that take part: all of them where numerics classes may mix, else those of one class, the one that
 * covers most experts, at best without its draining workers; among equals the one in force, then the one with most memory.
 */
export function chooseUsable(problem: Problem): Usable {
  const { workers, input } = problem;
  const all = workers.map((_, worker) => worker);
  const chosen = input.allowMixedNumerics ? all : bestClass(problem, all);
  const drains = (worker: number): boolean => workers[worker]?.draining === true;
  const active = new Uint8Array(workers.length);
  const draining = new Uint8Array(workers.length);
  for (const worker of chosen) (drains(worker) ? draining : active)[worker] = 1;
  return { active, draining };
}

function bestClass(problem: Problem, all: readonly number[]): number[] {
  const { numerics, workers, slots } = problem;
  const groups = [...new Set(numerics)]
    .sort((a, b) => a - b)
    .map((one) => all.filter((worker) => numerics[worker] === one));
  if (groups.length < 2) return groups[0] ?? [];
  const inForce = copiesInForce(problem);
  const scored = groups.map((group) => {
    const staying = group.filter((worker) => workers[worker]?.draining === false);
    const sum = (values: ArrayLike<number>): number =>
      group.reduce((total, worker) => total + (values[worker] as number), 0);
    return { group, ranks: [coverage(problem, group), coverage(problem, staying), sum(inForce), sum(slots)] };
  });
  // The sort is stable: equal classes stay in order of their names.
  scored.sort((a, b) => compare(b.ranks, a.ranks));
  return scored[0]?.group ?? [];
}

function compare(a: readonly number[], b: readonly number[]): number {
  const at = a.findIndex((value, index) => value !== b[index]);
  return at === -1 ? 0 : (a[at] as number) - (b[at] as number);
}

/** At most so many experts find a place on these workers. */
function coverage(problem: Problem, group: readonly number[]): number {
  const { numLayers, numExperts, workers, slots } = problem;
  const room = group.reduce((sum, worker) => sum + (slots[worker] as number), 0);
  if (group.some((worker) => workers[worker]?.can === null)) return Math.min(room, numLayers * numExperts);
  let count = 0;
  for (let layer = 0; layer < numLayers; layer++) {
    for (let expert = 0; expert < numExperts; expert++) {
      if (group.some((worker) => hasFiles(problem, worker, layer, expert))) count += 1;
    }
  }
  return Math.min(room, count);
}

function copiesInForce(problem: Problem): Int32Array {
  const counts = new Int32Array(problem.workers.length);
  const { current } = problem.input;
  if (current === null) return counts;
  for (const worker of liveHolders(problem, current).flat(2)) counts[worker] = (counts[worker] as number) + 1;
  return counts;
}
