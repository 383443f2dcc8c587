import type { Clock } from '@guildhall/common';
import type { Lane } from '@guildhall/native';
import { Breakers, type BreakerOptions } from './breaker.ts';
import { TokenBudget } from './budget.ts';
import { type LatencyOptions, MeasuredLatency } from './latency.ts';
import { seededRandom } from './random.ts';
import { TwoChoices } from './replica.ts';
import type { CallOutcome, CircuitBreaker, HedgeBudget, LatencyTracker, ReplicaChoice, WorkerRank } from './types.ts';

export interface DispatchPolicyOptions {
  clock: Pick<Clock, 'monotonicMs'>;
  /** Of what is drawn at random: choices among replicas, and times of probes. */
  seed: number;
  limitMs: LatencyOptions['limitMs'];
  /** Second calls for each first one, 0 to 1. */
  hedgeShare: number;
  leastDeadlineMs?: number;
  leastHedgeMs?: number;
  onBreaker?: BreakerOptions['onChange'];
}

/** What is on its way to one worker. */
interface WorkerCalls {
  calls: number;
  rows: Record<Lane, number>;
  /** Calls past their deadline. */
  overdue: number;
  lastOkMs: number;
}

/** For this long a good answer shows that a worker works. */
const HEALTHY_MS = 60_000;

/** What a router knows of its workers, and what it decides by that: one for all layers, steps and lanes. */
export class DispatchPolicy {
  readonly latency: LatencyTracker;
  readonly budget: HedgeBudget;
  readonly breakers: CircuitBreaker;
  readonly choice: ReplicaChoice;
  readonly #clock: Pick<Clock, 'monotonicMs'>;
  readonly #workers = new Map<string, WorkerCalls>();

  constructor(options: DispatchPolicyOptions) {
    const { clock, seed, hedgeShare, onBreaker } = options;
    this.#clock = clock;
    this.latency = new MeasuredLatency(options);
    this.budget = new TokenBudget({ share: hedgeShare });
    this.breakers = new Breakers({
      clock,
      random: seededRandom(seed),
      ...(onBreaker === undefined ? {} : { onChange: onBreaker }),
    });
    this.choice = new TwoChoices(seededRandom(seed + 1));
  }

  /** A call with `rows` entries went out. Returns true when nothing else was on its way to the worker. */
  sent(worker: string, lane: Lane, rows: number): boolean {
    const state = this.#stateOf(worker);
    state.calls += 1;
    state.rows[lane] += rows;
    return state.calls === 1;
  }

  /** A call ended, in whatever way; `wasLate` as it was told to `late`. */
  ended(worker: string, lane: Lane, rows: number, wasLate: boolean): void {
    const state = this.#stateOf(worker);
    state.calls = Math.max(0, state.calls - 1);
    state.rows[lane] = Math.max(0, state.rows[lane] - rows);
    if (wasLate) state.overdue = Math.max(0, state.overdue - 1);
  }

  /** A call is past its deadline. */
  late(worker: string): void {
    this.#stateOf(worker).overdue += 1;
    this.breakers.record(worker, 'late');
  }

  /** What came of a call that was answered or lost. */
  record(worker: string, outcome: CallOutcome): void {
    if (outcome === 'ok') this.#stateOf(worker).lastOkMs = this.#clock.monotonicMs();
    this.breakers.record(worker, outcome);
  }

  /** 1 for a worker that owes an answer past its deadline or whose breaker is open, else 2. */
  rank(worker: string): WorkerRank {
    if ((this.#workers.get(worker)?.overdue ?? 0) > 0) return 1;
    return this.breakers.state(worker) === 'closed' ? 2 : 1;
  }

  /** Time until a worker would answer a message sent now. */
  startMs(worker: string, lane: Lane): number {
    return this.latency.predictMs(worker, lane, this.#workers.get(worker)?.rows[lane] ?? 0);
  }

  /** Time that one more expert row takes a worker. */
  rowMs(worker: string, lane: Lane): number {
    return this.latency.predictMs(worker, lane, 1) - this.latency.predictMs(worker, lane, 0);
  }

  /** True when a worker answered well a short while ago, and its breaker is closed: what fails there may be the rows. */
  isHealthy(worker: string): boolean {
    const lastOkMs = this.#workers.get(worker)?.lastOkMs ?? -Infinity;
    return this.#clock.monotonicMs() - lastOkMs <= HEALTHY_MS && this.breakers.state(worker) === 'closed';
  }

  /** A worker is gone, or is another process now. */
  forget(worker: string): void {
    this.latency.forget(worker);
    this.breakers.forget(worker);
    this.#workers.delete(worker);
  }

  #stateOf(worker: string): WorkerCalls {
    const known = this.#workers.get(worker);
    if (known !== undefined) return known;
    const fresh = { calls: 0, rows: { decode: 0, prefill: 0 }, overdue: 0, lastOkMs: -Infinity };
    this.#workers.set(worker, fresh);
    return fresh;
  }
}
