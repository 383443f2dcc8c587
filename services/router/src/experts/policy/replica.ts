import type { ReplicaChoice, WorkerLoads } from './types.ts';

/** Rows by which a worker that gets the row anyhow may be behind another: one more worker costs the row's bytes. */
const SLACK_ROWS = 4;
/** The same as a share of the other's time. */
const SLACK_SHARE = 0.25;

/**
 * The power of two choices: of two replicas drawn at random the one that will be done earlier, by the rows it has
 * waiting and what a row takes it; but rather one that gets the row anyhow, unless it is far behind. Workers of a lower
 * rank only where there is none of a higher. The bits of a result do not depend on any of this.
 */
export class TwoChoices implements ReplicaChoice {
  readonly #random: () => number;
  #rank = new Uint8Array(0);
  #doneMs = new Float64Array(0);
  #rowMs = new Float64Array(0);
  /** Last row that each worker got an entry of. */
  #lastRow = new Int32Array(0);

  /** `random` gives numbers in [0, 1). */
  constructor(random: () => number) {
    this.#random = random;
  }

  begin(numWorkers: number, loads: WorkerLoads): void {
    if (this.#rank.length < numWorkers) {
      this.#rank = new Uint8Array(numWorkers);
      this.#doneMs = new Float64Array(numWorkers);
      this.#rowMs = new Float64Array(numWorkers);
      this.#lastRow = new Int32Array(numWorkers);
    }
    for (let worker = 0; worker < numWorkers; worker++) {
      this.#rank[worker] = loads.rank(worker);
      this.#doneMs[worker] = loads.startMs(worker);
      this.#rowMs[worker] = loads.rowMs(worker);
      this.#lastRow[worker] = -1;
    }
  }

  choose(list: Int32Array, from: number, to: number, row: number): number {
    let rank = 0;
    let count = 0;
    let only = -1;
    for (let i = from; i < to; i++) {
      const worker = list[i] as number;
      const own = this.#rank[worker] as number;
      if (own < rank || own === 0) continue;
      count = own === rank ? count + 1 : 1;
      rank = own;
      only = worker;
    }
    return count < 2 ? only : this.#best(list, from, to, row, rank, count);
  }

  assign(worker: number, row: number): void {
    this.#doneMs[worker] = (this.#doneMs[worker] as number) + (this.#rowMs[worker] as number);
    this.#lastRow[worker] = row;
  }

  /** Among `count` workers of the highest rank. */
  #best(list: Int32Array, from: number, to: number, row: number, rank: number, count: number): number {
    const first = count === 2 ? 0 : Math.floor(this.#random() * count);
    const second = count === 2 ? 1 : (first + 1 + Math.floor(this.#random() * (count - 1))) % count;
    let nth = 0;
    let drawn = -1;
    let present = -1;
    for (let i = from; i < to; i++) {
      const worker = list[i] as number;
      if (this.#rank[worker] !== rank) continue;
      if ((nth === first || nth === second) && this.#isEarlier(worker, drawn)) drawn = worker;
      if (this.#lastRow[worker] === row && this.#isEarlier(worker, present)) present = worker;
      nth += 1;
    }
    if (present === -1) return drawn;
    const other = this.#doneMs[drawn] as number;
    const slack = Math.max(SLACK_ROWS * (this.#rowMs[present] as number), SLACK_SHARE * other);
    return (this.#doneMs[present] as number) <= other + slack ? present : drawn;
  }

  #isEarlier(worker: number, than: number): boolean {
    return than === -1 || (this.#doneMs[worker] as number) < (this.#doneMs[than] as number);
  }
}
