import { CoActivation } from './co-activation.ts';
import type { Draft } from './draft.ts';
import { LayerTimes } from './layer-times.ts';
import type { Problem } from './problem.ts';

/** Power of the norm that stands for the slowest worker: smooth, so that every worker's time counts a little. */
const POWER = 16;

/** Holders of one layer of a draft with everything that its cost depends on, kept up to date. */
export class LayerState {
  readonly draft: Draft;
  readonly problem: Problem;
  readonly layer: number;
  readonly times: LayerTimes;
  readonly company: CoActivation;
  /** Experts of each worker. */
  readonly on: number[][];
  /** Rows per microsecond of each expert's holders together. */
  readonly #speeds: Float64Array;
  /** Microseconds that times are divided by before they are raised to the power. */
  readonly unitUs: number;
  /** Power of each worker's time, and their sum. */
  readonly #powers: Float64Array;
  #sum = 0;

  constructor(draft: Draft, layer: number) {
    this.draft = draft;
    this.problem = draft.problem;
    this.layer = layer;
    this.times = new LayerTimes(draft.problem);
    this.company = new CoActivation(draft.problem, layer);
    this.on = draft.problem.workers.map(() => []);
    this.#powers = new Float64Array(draft.problem.workers.length);
    this.#speeds = new Float64Array(draft.problem.numExperts);
    for (let expert = 0; expert < draft.problem.numExperts; expert++) {
      const holders = this.holders(expert);
      this.#speeds[expert] = this.#speedOf(holders);
      this.times.spread(this.rows(expert), holders, 1);
      for (const worker of holders) {
        this.on[worker]?.push(expert);
        this.company.set(expert, worker, this.share(expert, worker));
      }
    }
    this.unitUs = this.times.slowestUs() || 1;
    for (const worker of this.on.keys()) this.#refresh(worker);
  }

  holders(expert: number): number[] {
    return this.draft.of(this.layer, expert);
  }

  rows(expert: number): number {
    return this.problem.rows[this.layer * this.problem.numExperts + expert] as number;
  }

  /** Part of an expert's rows that a holder computes. */
  share(expert: number, worker: number): number {
    return (this.problem.speed[worker] as number) / (this.#speeds[expert] as number);
  }

  /** Part of an expert's rows that a worker gets when `from` (or -1) stops holding it and it begins. */
  shareAfter(expert: number, from: number, to: number): number {
    const { speed } = this.problem;
    const gone = from === -1 ? 0 : (speed[from] as number);
    const come = speed[to] as number;
    return come / ((this.#speeds[expert] as number) - gone + come);
  }

  /** A norm of the workers' times, in microseconds: a little above the slowest one. */
  norm(): number {
    return this.unitUs * this.#sum ** (1 / POWER);
  }

  /** Change of the norm for a small change of the sum of powers. */
  slope(): number {
    return (this.norm() / POWER) * (1 / this.#sum);
  }

  /** Microseconds of a worker when it gets rows and copies more. */
  timeAfter(worker: number, rows: number, copies: number): number {
    const { times } = this;
    return (times.copies[worker] as number) + copies === 0 ? 0 : times.timeWith(worker, rows);
  }

  /** Change of the sum of powers when a worker gets rows and copies more. */
  powerChange(worker: number, rows: number, copies: number): number {
    return power(this.timeAfter(worker, rows, copies) / this.unitUs) - (this.#powers[worker] as number);
  }

  /** Other holders' change of share, for one row per microsecond of theirs, when an expert leaves `from` for `to`. */
  #othersChange(expert: number, from: number, to: number): number {
    const { speed } = this.problem;
    const before = this.#speeds[expert] as number;
    const gone = from === -1 ? 0 : (speed[from] as number);
    const after = before - gone + (to === -1 ? 0 : (speed[to] as number));
    // Equal workers in turn leave nothing for the others to do, nor is there anything to split without holders.
    return Math.abs(after - before) <= 1e-12 * before || after <= 0 ? 0 : 1 / after - 1 / before;
  }

  /** Change of the sum of powers over the other holders of an expert that moves. */
  othersPower(expert: number, from: number, to: number): number {
    const change = this.#othersChange(expert, from, to) * this.rows(expert);
    if (change === 0) return 0;
    let sum = 0;
    for (const holder of this.holders(expert)) {
      if (holder !== from) sum += this.powerChange(holder, change * (this.problem.speed[holder] as number), 0);
    }
    return sum;
  }

  /** Microseconds of the slowest of the other holders that get slower when an expert moves. */
  othersPeakUs(expert: number, from: number, to: number): number {
    const change = this.#othersChange(expert, from, to) * this.rows(expert);
    if (change <= 0) return 0;
    let peakUs = 0;
    for (const holder of this.holders(expert)) {
      if (holder === from) continue;
      peakUs = Math.max(peakUs, this.timeAfter(holder, change * (this.problem.speed[holder] as number), 0));
    }
    return peakUs;
  }

  /** Change of the workers per token when an expert leaves `from` (or -1) for `to` (or -1). */
  tokensChange(expert: number, from: number, to: number): number {
    const { company } = this;
    let sum = 0;
    if (to !== -1) sum += this.shareAfter(expert, from, to) * company.alone(expert, to);
    if (from !== -1) sum -= this.share(expert, from) * company.alone(expert, from);
    const change = this.#othersChange(expert, from, to);
    if (change === 0) return sum;
    for (const holder of this.holders(expert)) {
      if (holder !== from) sum += change * (this.problem.speed[holder] as number) * company.alone(expert, holder);
    }
    return sum;
  }

  /** The same for two experts that change places; others than the two workers count as staying as they are. */
  tokensChangeOfSwap(expert: number, from: number, to: number, back: number): number {
    const { company } = this;
    return (
      this.shareAfter(expert, from, to) * company.aloneWithout(expert, to, back) -
      this.share(expert, from) * company.alone(expert, from) +
      this.shareAfter(back, to, from) * company.aloneWithout(back, from, expert) -
      this.share(back, to) * company.alone(back, to)
    );
  }

  /** Takes an expert from one worker and gives it to another; -1 for none. `settle` brings the company after it. */
  change(expert: number, from: number, to: number): void {
    const holders = this.holders(expert);
    this.times.spread(this.rows(expert), holders, -1);
    if (from !== -1) {
      this.draft.remove(this.layer, expert, from);
      const experts = this.on[from] as number[];
      experts.splice(experts.indexOf(expert), 1);
    }
    if (to !== -1) {
      this.draft.add(this.layer, expert, to);
      this.on[to]?.push(expert);
    }
    this.#speeds[expert] = this.#speedOf(holders);
    this.times.spread(this.rows(expert), holders, 1);
    if (from !== -1) this.#refresh(from);
    for (const worker of holders) this.#refresh(worker);
  }

  /** Brings the company up to date after an expert has left a worker (or -1) and others hold it. */
  settle(expert: number, left: number): void {
    if (left !== -1) this.company.set(expert, left, 0);
    for (const worker of this.holders(expert)) this.company.set(expert, worker, this.share(expert, worker));
  }

  #speedOf(holders: readonly number[]): number {
    let total = 0;
    for (const holder of holders) total += this.problem.speed[holder] as number;
    return total;
  }

  #refresh(worker: number): void {
    const now = power(this.times.time(worker) / this.unitUs);
    this.#sum += now - (this.#powers[worker] as number);
    this.#powers[worker] = now;
  }
}

/** x to the power of 16. */
function power(x: number): number {
  const two = x * x;
  const four = two * two;
  const eight = four * four;
  return eight * eight;
}
