/** A router's decisions without a model, a network or a cluster: for simulation, over a clock of the caller's. */
export { numMicroBatches } from './batch.ts';
export { Engine, type EngineOptions } from './engine.ts';
export { Calls } from './experts/calls.ts';
export {
  type DispatchBuffers,
  type DispatchContext,
  type DispatchObserver,
  RemoteExperts,
  type StepDispatch,
} from './experts/dispatch.ts';
export { ExpertLoads } from './experts/expert-loads.ts';
export type { Assignment, ExpertShape, Holdings } from './experts/holdings.ts';
export type { ReplySink } from './experts/lane-stream.ts';
export type { ExpertPeer } from './experts/peer.ts';
export { type ExpertView, ExpertViews } from './experts/placement-view.ts';
export { type MessageLimits, replyBytes, requestBytes } from './experts/plan.ts';
export type { WorkerLink } from './experts/worker-link.ts';
export { RouterKv } from './kv/router-kv.ts';
export { plainSpec } from './plain-spec.ts';
export type { Outcome, StepRunner } from './runner.ts';
export { PrefillAllowance } from './scheduler/budget.ts';
export type { DecodePlan, PrefillPlan, SchedulerLimits } from './scheduler/scheduler.ts';
export type { FinishOutput, Sequence, SequenceSink, SequenceSpec } from './sequence.ts';
