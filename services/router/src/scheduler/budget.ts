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
  #observedTokens = 0;

  /** Tokens of the steps that were measured; with few of them a prediction says little of the machine. */
  get observedTokens(): number {
    return this.#observedTokens;
  }

  /** Takes the measured time of a step. One far above the prediction counts as four times it: a stall, or the start. */
  observe(work: StepWork, ms: number): void {
    const x = features(work);
    this.#observedTokens += work.tokens;
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
 * Predicted milliseconds of a prefill step at most. Decode goes into the middle of a step, so this bounds only what a prompt
 * behind it and a cancelled batch wait for. It always holds a full step of fresh tokens, since small ones would read all weights
 * for few of them; at great depth, where attention costs most, steps get smaller.
 */
export function prefillStepMs(stepBudgetMs: number, chunkTokens: number, cost: StepCostModel): number {
  return Math.max(4 * stepBudgetMs, 2 * cost.marginal({ tokens: chunkTokens, depthTokens: 0 }));
}

/** The native threads, as far as prefill on them can be held; see native.ts. */
export interface PrefillThreads {
  limitPrefill(ms: number, alternate: boolean): void;
  prefillPauses(): { ms: number };
}

export interface AllowanceOptions {
  clock: Clock;
  /** Null: prefill pauses between layers only. */
  threads: PrefillThreads | null;
  /**
   * Decode steps never leave the native threads idle, so that they wait for prefill to use its time. Prefill then is one
   * native call and pauses nowhere else.
   */
  alternate: boolean;
  /** Time that streams take for a token while a prompt computes beside them, relative to the time without; above 1. */
  decodeSlowdown: number;
  /** Milliseconds of prefill beside decode before that bound holds. */
  burstMs: number;
}

/**
 * Time that prefill may take between two decode steps. A decode step grants a slice when it begins; prefill stops, its
 * buffers in place, once the slice is used up: inside of a native call or between two layers. Without anybody decoding
 * there is no limit.
 *
 * Slices come out of an account. Each millisecond that decode takes for itself, from one step's begin to the next one's,
 * pays in `decodeSlowdown - 1`, and what prefill used beyond its slice is paid back by later ones. The account holds up to
 * `burstMs`: an ordinary prompt takes as much at a time as the scheduler allows, a long one slows decode down by the bound.
 */
export class PrefillAllowance {
  /** Prefill runs whole steps in one native call. */
  readonly alternate: boolean;
  readonly #clock: Clock;
  readonly #threads: PrefillThreads | null;
  readonly #rate: number;
  readonly #burstMs: number;
  #account: number;
  #slice = Infinity;
  /** Since the last grant. */
  #used = 0;
  #grantedAt: number | null = null;
  /** When the running prefill step was last seen at work; null while it waits or none runs. */
  #workingSince: number | null = null;
  /** The threads' pauses up to then, milliseconds. */
  #pausedMs = 0;
  #active = 0;
  #total = 0;
  #wake: (() => void) | null = null;

  constructor({ clock, threads, alternate, decodeSlowdown, burstMs }: AllowanceOptions) {
    this.alternate = alternate;
    this.#clock = clock;
    this.#threads = threads;
    this.#rate = decodeSlowdown - 1;
    this.#burstMs = burstMs;
    this.#account = burstMs;
  }

  /** A decode step begins: prefill gets at most `mostMs` until the next one does. Returns what it gets. */
  grant(mostMs: number): number {
    this.#settle();
    const limited = this.#slice !== Infinity;
    const now = this.#clock.monotonicMs();
    const own = this.#grantedAt === null ? 0 : now - this.#grantedAt - (limited ? this.#used : 0);
    const paid = this.#account + Math.max(0, own) * this.#rate - (limited ? this.#used : 0);
    this.#account = Math.min(this.#burstMs, Math.max(-this.#burstMs, paid));
    this.#grantedAt = now;
    this.#used = 0;
    this.#slice = Math.max(0, Math.min(mostMs, this.#account));
    this.#threads?.limitPrefill(this.#slice, this.alternate);
    if (this.#slice > 0) this.#resume();
    return this.#slice;
  }

  /** Nobody decodes: no limit. */
  lift(): void {
    if (this.#slice === Infinity) return;
    // Closes the account of the last step; from here on time pays in and use costs nothing.
    this.grant(0);
    this.#slice = Infinity;
    this.#threads?.limitPrefill(Infinity, this.alternate);
    this.#resume();
  }

  /** A prefill step begins. */
  begin(): void {
    this.#active = 0;
    this.#work();
  }

  /** The prefill step ended; returns the milliseconds that it was at work, without the waits. */
  end(): number {
    this.#settle();
    this.#workingSince = null;
    return this.#active;
  }

  /** Milliseconds that prefill was at work since the start. */
  totalMs(): number {
    this.#settle();
    return this.#total;
  }

  /** Between two layers: null to go on, or a promise of the moment to go on. */
  checkpoint(): Promise<void> | null {
    this.#settle();
    if (this.#used < this.#slice) return null;
    this.#workingSince = null;
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  #work(): void {
    this.#workingSince = this.#clock.monotonicMs();
    this.#pausedMs = this.#threads?.prefillPauses().ms ?? 0;
  }

  #settle(): void {
    if (this.#workingSince === null) return;
    const [since, paused] = [this.#workingSince, this.#pausedMs];
    this.#work();
    const ms = Math.max(0, this.#workingSince - since - (this.#pausedMs - paused));
    this.#used += ms;
    this.#active += ms;
    this.#total += ms;
  }

  #resume(): void {
    const wake = this.#wake;
    if (wake === null) return;
    this.#wake = null;
    this.#work();
    wake();
  }
}
