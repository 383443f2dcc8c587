import type { Clock } from '@guildhall/common';
import { PAGE_TOKENS } from '../kv/page-pool.ts';

/** Work of a step: its tokens, and the sum over them of the context that each attends to. */
export interface StepWork {
  tokens: number;
  depthTokens: number;
}

/** What a step costs before anything was measured: 2 ms, 5 ms for 64 tokens, 1 ms for 64 tokens at depth 1024. */
const PRIOR = [2, 5, 1] as const;
/** Weight of an observation decays by this with each newer one. */
const DECAY = 0.97;
/** Pull towards the prior; keeps the solution defined while all observations look alike. */
const RIDGE = 0.05;
const TOKEN_UNIT = PAGE_TOKENS;
const DEPTH_UNIT = PAGE_TOKENS * 1024;

type Vec3 = [number, number, number];

/**
 * Online regression of step time: ms = c0 + c1 tokens + c2 depthTokens, with coefficients at or above zero. Ridge
 * least squares with exponentially decaying weights; a handful of steps suffice to follow a machine's speed.
 */
export class StepCostModel {
  readonly #a: [Vec3, Vec3, Vec3] = [
    [0, 0, 0],
    [0, 0, 0],
    [0, 0, 0],
  ];
  readonly #b: Vec3 = [0, 0, 0];
  #coefficients: Vec3 = [...PRIOR];

  /** Takes the measured time of a step. One far above the prediction counts as four times it: a stall, or the start. */
  observe(work: StepWork, ms: number): void {
    const x = features(work);
    const y = Math.min(ms, 4 * this.predict(work) + 50);
    for (const [i, xi] of x.entries()) {
      const row = this.#a[i] as Vec3;
      for (const [j, xj] of x.entries()) row[j] = (row[j] ?? 0) * DECAY + xi * xj;
      this.#b[i] = (this.#b[i] ?? 0) * DECAY + xi * y;
    }
    this.#coefficients = nonNegative(this.#a, this.#b);
  }

  /** Expected milliseconds of a step. */
  predict(work: StepWork): number {
    const [c0, c1, c2] = this.#coefficients;
    const [x0, x1, x2] = features(work);
    return c0 * x0 + c1 * x1 + c2 * x2;
  }

  /** Expected milliseconds that these tokens add to a step. */
  marginal(work: StepWork): number {
    return this.predict(work) - this.#coefficients[0];
  }

  /** Tokens (a multiple of 64, 0 or more) at context `depth` that add at most `ms` to a step. */
  tokensWithin(ms: number, depth: number, most: number): number {
    const perToken = this.#coefficients[1] / TOKEN_UNIT + (this.#coefficients[2] * depth) / DEPTH_UNIT;
    const tokens = perToken <= 0 ? most : Math.min(most, ms / perToken);
    return Math.max(0, Math.floor(tokens / PAGE_TOKENS) * PAGE_TOKENS);
  }
}

function features(work: StepWork): Vec3 {
  return [1, work.tokens / TOKEN_UNIT, work.depthTokens / DEPTH_UNIT];
}

/** Least squares without negative coefficients: the most negative one is fixed at zero until none is left. */
function nonNegative(a: [Vec3, Vec3, Vec3], b: Vec3): Vec3 {
  const used = [true, true, true];
  for (;;) {
    const solution = solveRidge(a, b, used);
    const worst = solution.indexOf(Math.min(...solution));
    if ((solution[worst] ?? 0) >= 0) return solution;
    used[worst] = false;
  }
}

/** Solves (A + rI) c = b + r prior over the used coefficients; the others are zero. */
function solveRidge(a: [Vec3, Vec3, Vec3], b: Vec3, used: readonly boolean[]): Vec3 {
  const index = [0, 1, 2].filter((i) => used[i]);
  const m = index.map((i) => {
    const row = index.map((j) => (a[i]?.[j] ?? 0) + (i === j ? RIDGE : 0));
    return [...row, (b[i] ?? 0) + RIDGE * (PRIOR[i] ?? 0)];
  });
  // A + rI is positive definite, so elimination needs no pivoting.
  for (const [k, pivot] of m.entries()) {
    for (const [i, row] of m.entries()) {
      if (i === k) continue;
      const factor = (row[k] ?? 0) / (pivot[k] ?? 1);
      for (let j = k; j < row.length; j++) row[j] = (row[j] ?? 0) - factor * (pivot[j] ?? 0);
    }
  }
  const solution: Vec3 = [0, 0, 0];
  for (const [k, i] of index.entries()) solution[i] = (m[k]?.[index.length] ?? 0) / (m[k]?.[k] ?? 1);
  return solution;
}

/**
 * Time that prefill may take between two decode steps. A decode step grants a slice when it begins; prefill asks at
 * the end of every layer and waits there, its buffers in place, once the slice is used up. Without anybody decoding
 * there is no limit.
 */
export class PrefillAllowance {
  readonly #clock: Clock;
  #slice = Infinity;
  #used = 0;
  /** When the running prefill step was last seen at work; null while it waits or none runs. */
  #workingSince: number | null = null;
  #active = 0;
  #wake: (() => void) | null = null;
  #turnOver: (() => void) | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** A decode step begins: prefill gets `ms` until the next one does. */
  grant(ms: number): void {
    this.#settle();
    this.#slice = ms;
    this.#used = 0;
    this.#resume();
  }

  /** Nobody decodes: no limit. */
  lift(): void {
    this.#settle();
    this.#slice = Infinity;
    this.#resume();
  }

  /** A prefill step begins. */
  begin(): void {
    this.#active = 0;
    this.#workingSince = this.#clock.monotonicMs();
  }

  /** The prefill step ended; returns the milliseconds that it was at work, without the waits. */
  end(): number {
    this.#settle();
    this.#rest();
    return this.#active;
  }

  /**
   * For decode steps that leave prefill no time beside them: grants `ms` between two of them. Null when there is nobody
   * to wait for, else resolves when prefill has used its time or ended.
   */
  turn(ms: number): Promise<void> | null {
    this.grant(ms);
    if (this.#workingSince === null) return null;
    return new Promise((resolve) => {
      this.#turnOver = resolve;
    });
  }

  /** Between two layers: null to go on, or a promise of the moment to go on. */
  checkpoint(): Promise<void> | null {
    this.#settle();
    if (this.#used < this.#slice) return null;
    this.#rest();
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  #rest(): void {
    this.#workingSince = null;
    this.#turnOver?.();
    this.#turnOver = null;
  }

  #settle(): void {
    if (this.#workingSince === null) return;
    const now = this.#clock.monotonicMs();
    this.#used += now - this.#workingSince;
    this.#active += now - this.#workingSince;
    this.#workingSince = now;
  }

  #resume(): void {
    const wake = this.#wake;
    if (wake === null) return;
    this.#wake = null;
    this.#workingSince = this.#clock.monotonicMs();
    wake();
  }
}
