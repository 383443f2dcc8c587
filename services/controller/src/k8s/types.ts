/** What the rest of the controller knows of Kubernetes. Outside Kubernetes there is no implementation, and nothing needs one. */

/** How far a pod is. `unschedulable`: the scheduler found no place for it. `loading`: it runs and is not ready yet. */
export type PodPhase = 'pending' | 'unschedulable' | 'loading' | 'ready' | 'terminating' | 'failed';

/** One pod of a workload. Its name is the id of the process in it (`GUILDHALL_ID` is metadata.name). */
export interface WorkloadPod {
  name: string;
  /** Machine that it is bound to; null before. */
  node: string | null;
  phase: PodPhase;
  /** When it was created, milliseconds since the Unix epoch. */
  createdMs: number;
  /** When it became ready last; null before. */
  readyMs: number | null;
  restarts: number;
}

/** A Deployment of this release that the controller may scale: an expert group, or the routers. */
export interface Workload {
  kind: 'experts' | 'routers';
  /** Name of the expert group; `router` for the routers. */
  name: string;
  deployment: string;
  /** spec.replicas as the API server has it. */
  replicas: number;
  /** Manager that wrote spec.replicas last, when that was not this controller: `kubectl-scale`, `helm`; null otherwise. */
  foreignWriter: string | null;
  /** HorizontalPodAutoscaler or ScaledObject that targets the same Deployment; null when there is none. */
  otherScaler: string | null;
  /** The annotation `guildhall.dev/autoscale: paused` is set. */
  paused: boolean;
  /** Its pods are being replaced: which of them a lower number would delete cannot be told. */
  rolling: boolean;
  pods: readonly WorkloadPod[];
}

/** Why a write to the API server did not happen: `conflict` when somebody else wrote first, `refused` for everything else. */
export type WriteOutcome = 'done' | 'conflict' | 'refused';

/** The release's workloads as informers see them, and the writes that scaling needs. */
export interface Workloads {
  /** Null until everything was listed once, and while a watch is older than it may be: then nothing may be decided. */
  readonly current: readonly Workload[] | null;
  onChange(listener: () => void): () => void;
  /** Writes spec.replicas through /scale if it is `from` still. Nothing happens unless this process leads. */
  scale(deployment: string, from: number, to: number): Promise<WriteOutcome>;
  /** Sets controller.kubernetes.io/pod-deletion-cost: of several pods the one with the least cost is deleted first. */
  setDeletionCost(pod: string, cost: number): Promise<WriteOutcome>;
  /** Writes a Kubernetes Event about a Deployment. Never throws. */
  event(deployment: string, type: 'Normal' | 'Warning', reason: string, message: string): void;
}

/** Taking pods away without loss. State lives in Redis and the API server only: a controller that takes over goes on. */
export interface Shrinks {
  /** Shrinks under way, one for a deployment at most. */
  readonly current: readonly Shrink[];
  /**
   * Drains the pods, then deletes exactly them by lowering replicas (deletion cost, /scale). Returns once it is begun and noted.
   * `conflict` when one is under way for this deployment; `refused` when this process does not lead, when a pod is not of the
   * deployment, and while its pods are being replaced.
   */
  shrink(deployment: string, pods: readonly string[]): Promise<WriteOutcome>;
  /**
   * Takes a shrink back that has not lowered replicas yet: workers get work again. `refused` where it is too late, or where a
   * router has begun to move its streams: then it goes on, and the deployment is to be scaled up after it.
   */
  abort(deployment: string): Promise<WriteOutcome>;
}

/** A shrink under way. */
export interface Shrink {
  deployment: string;
  pods: readonly string[];
  state: 'draining' | 'drained' | 'deleting';
  /** When it was begun, milliseconds since the Unix epoch. */
  sinceMs: number;
  /** What is waited for; for people. */
  why: string;
}

/** Asked right before replicas are lowered: why these pods may not go after all; null when they may. */
export type ShrinkGuard = (deployment: string, pods: readonly string[]) => string | null;

/**
 * Which pods may be given work, by the EndpointSlices of the headless services: the truth of liveness, which is joined with what
 * processes say of themselves in Redis.
 */
export interface Endpoints {
  /** Null until listed, and while the watch is older than it may be. */
  readonly current: ReadonlyMap<string, EndpointState> | null;
  onChange(listener: () => void): () => void;
}

/** A pod that an EndpointSlice names. */
export interface EndpointState {
  pod: string;
  ready: boolean;
  /** Serving and not terminating: may be given new work. */
  usable: boolean;
  terminating: boolean;
}
