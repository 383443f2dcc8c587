import type { ReplicaChoice, WorkerLoads } from './types.ts';

/** Rows by which a worker that gets the row anyhow may be behind another: one more worker costs the row's bytes. */
const SLACK_ROWS = 8;
/** The same as a share of the other's time. */
const SLACK_SHARE = 0.25;

/**
 * The power of two choices: of two replicas drawn at random the one that will be done earlier, by the rows it has
 * waiting and what a row takes it; but rather one that gets the row anyhow, unless it is far behind. Workers of a lower
 * rank only where there is none of a higher. The bits of a result do not depend on any of this.
 */
export class TwoChoices implements ReplicaChoice {
  readonly #random: () => number;
  #loads: WorkerLoads | null = null;
  /** Plans so far; a worker is asked about when a plan first comes upon it. */
  #plan = 0;
  #seenIn = new Int32Array(0);
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
    this.#loads = loads;
    this.#plan = (this.#plan + 1) | 0;
    if (this.#rank.length >= numWorkers) return;
    this.#seenIn = new Int32Array(numWorkers).fill(this.#plan - 1);
    this.#rank = new Uint8Array(numWorkers);
    this.#doneMs = new Float64Array(numWorkers);
    this.#rowMs = new Float64Array(numWorkers);
    this.#lastRow = new Int32Array(numWorkers);
  }

  choose(list: Int32Array, from: number, to: number, row: number): number {
    let rank = 0;
    let count = 0;
    let only = -1;
    for (let i = from; i < to; i++) {
      const worker = list[i] as number;
      const own = this.#rankOf(worker);
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

  #rankOf(worker: number): number {
    if (this.#seenIn[worker] !== this.#plan) this.#look(worker);
    return this.#rank[worker] as number;
  }

  #look(worker: number): void {
    const loads = this.#loads as WorkerLoads;
    const rank = loads.rank(worker);
    this.#seenIn[worker] = this.#plan;
    this.#rank[worker] = rank;
    this.#lastRow[worker] = -1;
    if (rank === 0) return;
    this.#doneMs[worker] = loads.startMs(worker);
    this.#rowMs[worker] = loads.rowMs(worker);
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
