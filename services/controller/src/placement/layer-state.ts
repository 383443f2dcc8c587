import type { Draft } from './draft.ts';
import { LayerTimes } from './layer-times.ts';
import type { Problem } from './problem.ts';
import { type TokenHits, tokenHits } from './token-hits.ts';

/** Power of the norm that stands for the slowest worker: smooth, so that every worker's time counts a little. */
const POWER = 16;

/** Holders of one layer of a draft with everything that its cost depends on, kept up to date. */
export class LayerState {
  readonly draft: Draft;
  readonly problem: Problem;
  readonly layer: number;
  readonly times: LayerTimes;
  readonly hits: TokenHits;
  /** Experts of each worker. */
  readonly on: number[][];
  /** Microseconds that times are divided by before they are raised to the power. */
  readonly #unitUs: number;
  /** Power of each worker's time, and their sum. */
  readonly #powers: Float64Array;
  #sum = 0;

  constructor(draft: Draft, layer: number) {
    this.draft = draft;
    this.problem = draft.problem;
    this.layer = layer;
    this.times = new LayerTimes(draft.problem);
    this.hits = tokenHits(draft.problem, layer);
    this.on = draft.problem.workers.map(() => []);
    this.#powers = new Float64Array(draft.problem.workers.length);
    for (let expert = 0; expert < draft.problem.numExperts; expert++) {
      const holders = this.holders(expert);
      this.times.spread(this.rows(expert), holders, 1);
      for (const worker of holders) {
        this.on[worker]?.push(expert);
        this.hits.set(expert, worker, this.share(expert, worker));
      }
    }
    this.#unitUs = this.times.slowestUs() || 1;
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
    const { speed } = this.problem;
    return (speed[worker] as number) / this.#speedOf(expert, -1);
  }

  /** A norm of the workers' times, in microseconds: a little above the slowest one. */
  norm(): number {
    return this.#unitUs * this.#sum ** (1 / POWER);
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
    return power(this.timeAfter(worker, rows, copies) / this.#unitUs) - (this.#powers[worker] as number);
  }

  /** Part of an expert's rows that a worker gets when `from` (or -1) stops holding it and it begins. */
  shareAfter(expert: number, from: number, to: number): number {
    const { speed } = this.problem;
    return (speed[to] as number) / (this.#speedOf(expert, from) + (speed[to] as number));
  }

  /** Rows per microsecond of an expert's holders without one of them. */
  #speedOf(expert: number, without: number): number {
    const { speed } = this.problem;
    let total = 0;
    for (const holder of this.holders(expert)) if (holder !== without) total += speed[holder] as number;
    return total;
  }

  /**
   * Calls `visit` with the change of its share for each other holder whose share changes when an expert leaves `from`
   * (or -1) for `to` (or -1).
   */
  #others(expert: number, from: number, to: number, visit: (holder: number, change: number) => void): void {
    const { speed } = this.problem;
    const before = this.#speedOf(expert, -1);
    const after = this.#speedOf(expert, from) + (to === -1 ? 0 : (speed[to] as number));
    if (Math.abs(after - before) <= 1e-12 * before || after === 0) return;
    for (const holder of this.holders(expert)) {
      if (holder !== from) visit(holder, (speed[holder] as number) * (1 / after - 1 / before));
    }
  }

  /** Change of the sum of powers over the other holders of an expert that moves. */
  othersPower(expert: number, from: number, to: number): number {
    let sum = 0;
    this.#others(expert, from, to, (holder, change) => {
      sum += this.powerChange(holder, this.rows(expert) * change, 0);
    });
    return sum;
  }

  /** Microseconds of the slowest of the other holders that get slower when an expert moves. */
  othersPeakUs(expert: number, from: number, to: number): number {
    let peakUs = 0;
    this.#others(expert, from, to, (holder, change) => {
      if (change > 0) peakUs = Math.max(peakUs, this.timeAfter(holder, this.rows(expert) * change, 0));
    });
    return peakUs;
  }

  /** Change of the workers per token when an expert leaves `from` (or -1) for `to` (or -1). */
  tokensChange(expert: number, from: number, to: number): number {
    const { hits } = this;
    const alone = (worker: number): number => hits.chance(expert) - hits.shared(expert, worker);
    let change = 0;
    if (to !== -1) change += this.shareAfter(expert, from, to) * alone(to);
    if (from !== -1) change -= this.share(expert, from) * alone(from);
    this.#others(expert, from, to, (holder, share) => {
      change += share * alone(holder);
    });
    return change;
  }

  /** Takes an expert from one worker and gives it to another; -1 for none. */
  change(expert: number, from: number, to: number): void {
    const holders = this.holders(expert);
    const before = holders.map((worker) => [worker, this.share(expert, worker)] as const);
    this.times.spread(this.rows(expert), holders, -1);
    if (from !== -1) {
      this.draft.remove(this.layer, expert, from);
      const experts = this.on[from] as number[];
      experts.splice(experts.indexOf(expert), 1);
      this.hits.set(expert, from, 0);
    }
    if (to !== -1) {
      this.draft.add(this.layer, expert, to);
      this.on[to]?.push(expert);
    }
    this.times.spread(this.rows(expert), holders, 1);
    for (const worker of holders) this.hits.set(expert, worker, this.share(expert, worker));
    for (const [worker] of before) this.#refresh(worker);
    if (to !== -1) this.#refresh(to);
  }

  #refresh(worker: number): void {
    const now = power(this.times.time(worker) / this.#unitUs);
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
