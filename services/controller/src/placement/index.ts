/** Entry '@guildhall/controller/placement': the planner, without anything that talks to a network. */
export { costOf } from './cost.ts';
export { diffAssignments, type PlacementDiff } from './diff.ts';
export { balancedPacking, eplb, type EplbShape, replicateExperts } from './eplb.ts';
export { planPlacement } from './plan.ts';
export { replicate, type ReplicaBounds } from './replicate.ts';
export type { Assignment, PlanCost, PlanInput, PlanResult, PlanWeights, PlanWorker } from './types.ts';
