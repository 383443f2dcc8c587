/** Decisions of the dispatch, without its mechanics: for the router itself and for the simulator. */
export { type BreakerOptions, Breakers } from './breaker.ts';
export { type BudgetOptions, TokenBudget } from './budget.ts';
export { DispatchPolicy, type DispatchPolicyOptions } from './dispatch-policy.ts';
export { type LatencyOptions, MeasuredLatency } from './latency.ts';
export { seededRandom } from './random.ts';
export { TwoChoices } from './replica.ts';
export type {
  BreakerState,
  CallOutcome,
  CircuitBreaker,
  HedgeBudget,
  LatencyTracker,
  ReplicaChoice,
  WorkerLoads,
  WorkerRank,
} from './types.ts';
