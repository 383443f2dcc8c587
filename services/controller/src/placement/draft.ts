import { hasFiles, type Problem } from './problem.ts';
import type { Assignment } from './types.ts';

/** A placement in the making: who holds what, and the room that is left. */
export class Draft {
  readonly problem: Problem;
  /** Worker indexes of each expert, in the order in which they were added: holders[layer][expert]. */
  readonly holders: number[][][];
  /** Experts that still fit into each worker. */
  readonly free: Int32Array;

  constructor(problem: Problem, from: Draft | null = null) {
    this.problem = problem;
    this.holders =
      from?.holders.map((layer) => layer.map((workers) => [...workers])) ??
      Array.from({ length: problem.numLayers }, () => Array.from({ length: problem.numExperts }, () => []));
    this.free = (from?.free ?? problem.slots).slice();
  }

  copy(): Draft {
    return new Draft(this.problem, this);
  }

  of(layer: number, expert: number): number[] {
    return this.holders[layer]?.[expert] as number[];
  }

  add(layer: number, expert: number, worker: number): void {
    this.of(layer, expert).push(worker);
    this.free[worker] = (this.free[worker] as number) - 1;
  }

  remove(layer: number, expert: number, worker: number): void {
    const workers = this.of(layer, expert);
    workers.splice(workers.indexOf(worker), 1);
    this.free[worker] = (this.free[worker] as number) + 1;
  }

  /** Gives an expert these holders in place of those that it has. */
  set(layer: number, expert: number, workers: readonly number[]): void {
    const holders = this.of(layer, expert);
    while (holders.length > 0) this.remove(layer, expert, holders[0] as number);
    for (const worker of workers) this.add(layer, expert, worker);
  }

  hasRoom(worker: number): boolean {
    return (this.free[worker] as number) > 0;
  }

  /**
   * Whether a worker may get a copy, memory aside: it has the files, holds none, and is of the numerics class of the
   * other holders; `without` is a holder that is about to go.
   */
  fits(layer: number, expert: number, worker: number, without = -1): boolean {
    const { numerics } = this.problem;
    for (const holder of this.of(layer, expert)) {
      if (holder === worker) return false;
      if (holder !== without && numerics[holder] !== numerics[worker]) return false;
    }
    return hasFiles(this.problem, worker, layer, expert);
  }

  /** Whether another holder than `without` is in the worker's failure domain. */
  sharesDomain(layer: number, expert: number, worker: number, without = -1): boolean {
    const { domain } = this.problem;
    for (const holder of this.of(layer, expert)) {
      if (holder !== without && domain[holder] === domain[worker]) return true;
    }
    return false;
  }

  /** Failure domains that the copies of an expert are in. */
  domainsOf(layer: number, expert: number): number {
    const { domain } = this.problem;
    return new Set(this.of(layer, expert).map((worker) => domain[worker])).size;
  }

  /** The assignment, with the workers for which `listed` is true or that hold anything. */
  assignment(listed: (worker: number) => boolean): Assignment {
    const { workers } = this.problem;
    const used = new Set(this.holders.flat(2));
    const kept = workers.map((_, index) => index).filter((index) => used.has(index) || listed(index));
    const place = new Map(kept.map((index, position) => [index, position]));
    return {
      workers: kept.map((index) => workers[index]?.id as string),
      holders: this.holders.map((layer) =>
        layer.map((holders) => holders.map((index) => place.get(index) as number).sort((a, b) => a - b)),
      ),
    };
  }
}
