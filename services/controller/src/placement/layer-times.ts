import type { Problem } from './problem.ts';

/** Rows and predicted times of the workers in one layer, kept up to date while experts come and go. */
export class LayerTimes {
  /** Rows of a step that each worker computes. */
  readonly rows: Float64Array;
  /** Experts that each worker has a copy of. */
  readonly copies: Int32Array;
  readonly #problem: Problem;

  constructor(problem: Problem) {
    this.#problem = problem;
    this.rows = new Float64Array(problem.workers.length);
    this.copies = new Int32Array(problem.workers.length);
  }

  /** Adds an expert with its rows and holders, or takes it off. Rows are split between holders by their speed. */
  spread(rows: number, holders: readonly number[], sign: 1 | -1): void {
    const { speed } = this.#problem;
    let total = 0;
    for (const worker of holders) total += speed[worker] as number;
    for (const worker of holders) {
      this.rows[worker] = (this.rows[worker] as number) + (sign * rows * (speed[worker] as number)) / total;
      this.copies[worker] = (this.copies[worker] as number) + sign;
    }
  }

  /** Predicted microseconds of a worker; none for one without experts of the layer. */
  time(worker: number): number {
    return (this.copies[worker] as number) === 0 ? 0 : this.timeWith(worker, 0);
  }

  /** Predicted microseconds of a worker with so many rows more. */
  timeWith(worker: number, rows: number): number {
    const { usPerMessage, usPerRow } = this.#problem;
    return (usPerMessage[worker] as number) + ((this.rows[worker] as number) + rows) * (usPerRow[worker] as number);
  }

  /** Microseconds of the slowest worker. */
  slowestUs(): number {
    let most = 0;
    for (let worker = 0; worker < this.rows.length; worker++) most = Math.max(most, this.time(worker));
    return most;
  }
}

/** Times of a layer whose experts have these holders. */
export function timesOf(problem: Problem, layer: number, holders: readonly (readonly number[])[]): LayerTimes {
  const times = new LayerTimes(problem);
  for (const [expert, workers] of holders.entries()) {
    times.spread(problem.rows[layer * problem.numExperts + expert] as number, workers, 1);
  }
  return times;
}
