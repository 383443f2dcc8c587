export { type ControllerApp, type ControllerDeps, startController } from './app.ts';
export { type ControllerConfig, controllerSchema } from './config.ts';
export { type ControllerStatus } from './status.ts';
export type { Shrink, Shrinks, Workload, WorkloadPod, Workloads } from './k8s/types.ts';
