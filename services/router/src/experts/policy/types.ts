import type { Lane } from '@guildhall/native';

/**
 * The decisions of the dispatch, apart from its mechanics: pure code over an injected clock, so that the simulator
 * runs the very same. Times are monotonic milliseconds.
 */

/** What became of a call to a worker; `late` is one that has had no answer by its deadline. */
export type CallOutcome = 'ok' | 'busy' | 'not-held' | 'fault' | 'lost' | 'late';

/** Latencies of one worker and lane, from which deadlines and hedging delays are taken. */
export interface LatencyTracker {
  /** A reply came after `ms`; `rows` expert rows were in the call. */
  observe(worker: string, lane: Lane, rows: number, ms: number): void;
  /** Typical time of a call; what all workers need where this one was not measured lately. */
  predictMs(worker: string, lane: Lane, rows: number): number;
  /** When a call should have been answered, and a second one be sent; Infinity before enough was measured. */
  hedgeAfterMs(worker: string, lane: Lane, rows: number): number;
  /** When a call counts as late; the configured limit before enough was measured. */
  deadlineMs(worker: string, lane: Lane, rows: number): number;
  forget(worker: string): void;
}

/** Keeps second calls under a share of all calls. */
export interface HedgeBudget {
  /** A first call was made. */
  earned(): void;
  /** True, and the budget is charged, when `calls` second calls may be made. */
  spend(calls?: number): boolean;
  /** As `spend`, for calls that are past their deadline: some of these may be made beyond the share. */
  spendLate(calls?: number): boolean;
}

export type BreakerState = 'closed' | 'open' | 'probing';

/** Which workers are worth asking. */
export interface CircuitBreaker {
  /** Workers whose breakers are not closed. */
  readonly numOpen: number;
  /** `open`: send nothing that another can answer. `probing`: as open, and time to try it with a copy of real rows. */
  state(worker: string): BreakerState;
  /** A probe is on its way; the worker is `open` until it is answered or the next one is due. */
  probed(worker: string): void;
  record(worker: string, outcome: CallOutcome): void;
  forget(worker: string): void;
}

/** How a worker may be used by a plan: not at all, only where nobody better holds an expert, or freely. */
export type WorkerRank = 0 | 1 | 2;

/** What a choice among replicas goes by, for each worker by its index in the plan. */
export interface WorkerLoads {
  rank(worker: number): WorkerRank;
  /** Time until the worker would answer a message sent now, before this plan's rows are counted. */
  startMs(worker: number): number;
  /** Time that one more expert row takes. */
  rowMs(worker: number): number;
}

/** Load-aware choice among replicas, for the entries of one plan after another. */
export interface ReplicaChoice {
  /** Begins a plan over workers 0 to numWorkers - 1. */
  begin(numWorkers: number, loads: WorkerLoads): void;
  /** The worker to send to among list[from] to list[to - 1], or -1 when none may be used. */
  choose(list: Int32Array, from: number, to: number, row: number): number;
  /** An entry of a row went to a worker. */
  assign(worker: number, row: number): void;
}
