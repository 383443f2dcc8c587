export {
  type AutoscalerPolicy,
  autoscalerPolicySchema,
  type GroupPolicy,
  groupPolicySchema,
  type RouterPolicy,
  routerPolicySchema,
} from './policy.ts';
export { decide } from './decide/decide.ts';
export type { Alarm, Decision, Plan, Step } from './plan.ts';
export { parsePolicy, readPolicy } from './policy-file.ts';
export { type Reason, REASONS } from './reasons.ts';
export { AUTOSCALER_STATUS, type AutoscalerStatus, parseAutoscalerStatus } from './status.ts';
export type { View, WorkloadView } from './view.ts';
