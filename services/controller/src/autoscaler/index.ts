export {
  type AutoscalerPolicy,
  autoscalerPolicySchema,
  type GroupPolicy,
  groupPolicySchema,
  type RouterPolicy,
  routerPolicySchema,
} from './policy.ts';
