import type { Lane } from '@guildhall/native';

/**
 * The decisions of the dispatch, apart from its mechanics: pure code over an injected clock, so that the simulator
 * runs the very same. Times are monotonic milliseconds.
 */

/** What became of a call to a worker. */
export type CallOutcome = 'ok' | 'busy' | 'not-held' | 'fault' | 'lost' | 'late';

/** Latencies of one worker and lane, from which deadlines and hedging delays are taken. */
export interface LatencyTracker {
  /** A reply came after `ms`; `rows` expert rows were in the call. */
  observe(worker: string, lane: Lane, rows: number, ms: number): void;
  /** When a call should have been answered, and a second one be sent; Infinity before enough was measured. */
  hedgeAfterMs(worker: string, lane: Lane, rows: number): number;
  /** When a call counts as lost. */
  deadlineMs(worker: string, lane: Lane, rows: number): number;
  forget(worker: string): void;
}

/** Keeps second calls under a share of all calls. */
export interface HedgeBudget {
  /** A first call was made. */
  earned(): void;
  /** True, and the budget is charged, when a second call may be made. */
  spend(): boolean;
}

export type BreakerState = 'closed' | 'open' | 'probing';

/** Which workers are worth asking. */
export interface CircuitBreaker {
  /** False while a worker is not to be sent to; a probe is let through now and then. */
  allows(worker: string): boolean;
  record(worker: string, outcome: CallOutcome): void;
  state(worker: string): BreakerState;
  forget(worker: string): void;
}

/** Load-aware choice among replicas. */
export interface ReplicaChoice {
  /** Of the holders of an expert, the one to send to; `assigned` is what this layer's plan gave each so far. */
  choose(holders: readonly number[], row: number): number;
}
