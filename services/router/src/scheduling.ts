/** A router's decisions without a model, a network or a cluster: for simulation, over a clock of the caller's. */
export { numMicroBatches } from './batch.ts';
export { Engine, type EngineOptions } from './engine.ts';
export type { Assignment, ExpertShape, Holdings } from './experts/holdings.ts';
export { type ExpertView, ExpertViews, type PinnedView, type ViewWorker } from './experts/placement-view.ts';
export {
  type Entries,
  entriesOf,
  type HolderTable,
  mergeEntries,
  type Part,
  type Plan,
  planParts,
  replyBytes,
  requestBytes,
} from './experts/plan.ts';
export type { WorkerLink } from './experts/worker-link.ts';
export { RouterKv } from './kv/router-kv.ts';
export type { Outcome, StepRunner } from './runner.ts';
export { PrefillAllowance } from './scheduler/budget.ts';
export type { DecodePlan, PrefillPlan, SchedulerLimits } from './scheduler/scheduler.ts';
export type { FinishOutput, Sequence, SequenceSink, SequenceSpec } from './sequence.ts';
