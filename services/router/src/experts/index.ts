/** The dispatch of expert rows without the rest of a router, for benches. */
export { Calls } from './calls.ts';
export { type DispatchContext, type DispatchObserver, RemoteExperts, type StepDispatch } from './dispatch.ts';
export { ExpertLoads } from './expert-loads.ts';
export { ExpertTopology } from './topology.ts';
export type { RouterIdentity } from './lane-stream.ts';
