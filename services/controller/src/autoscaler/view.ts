import type { Reason } from './reasons.ts';

/** A quantity over time: as it is, and how high it was in the time after which a replica may go. */
export interface Level {
  now: number;
  high: number;
}

/** How many pods are how far. */
export interface PodCounts {
  ready: number;
  loading: number;
  pending: number;
  failed: number;
  /** Still on a machine, though they are to go. */
  terminating: number;
  /** How long each unschedulable pod has waited, ms, longest first. */
  unschedulableMs: readonly number[];
}

/** What the workers of a group do. */
export interface GroupLoad {
  /** Work that more replicas would share, in replicas that compute all the time. */
  shared: Level;
  /** Share of its time that each replica needs whatever the number of replicas, 0 to 1. */
  fixed: number;
  /** Share of its time that the busiest worker computes, 0 to 1: each layer waits for it. */
  busiest: number;
  /** Expert rows a second, all replicas. */
  rows: Level;
  /** Rows a second that one replica computes when it does nothing else; null before it was measured. */
  rowsPerReplica: number | null;
}

/** What the routers do. */
export interface RouterLoad {
  /** Routers' worth of KV pages that running and waiting sequences need: 1.5 are one and a half routers full of pages. */
  kv: Level;
  /** Time that the prompts that wait would take, ms, all routers. */
  prefillMs: Level;
  running: number;
  waiting: Level;
  /** 95th percentiles, ms; null where nothing was measured. */
  ttftMs: Level | null;
  itlMs: Level | null;
  /** Decode steps a second, all routers; null before it was measured. */
  stepsPerSecond: number | null;
  /** What `kv` would be if no token were held up by the experts; null where that is not known. */
  kvWhenFree: number | null;
  /** What waits and runs becomes less. */
  drains: boolean;
  /** Tokens that arrive over those that are computed: above 1 the queues grow, below 1 they become shorter. 1 where nobody tells. */
  pressure: number;
}

/** Which experts the workers of a group can hold, and how many. */
export interface Memory {
  /** Groups with the same reach share their load: `any` where workers take every expert. */
  reach: string;
  /** (layer, expert) pairs within reach. */
  pairs: number;
  /** Pairs that one replica has room for. */
  slots: number;
}

/** What stands in the way of a change of one workload. */
export interface Block {
  reason: Reason;
  message: string;
}

/** Pods that could go next. */
export interface Victim {
  pod: string;
  /** Why none may go; null when this one may. */
  block: Block | null;
}

/** One workload as the autoscaler sees it. */
export interface WorkloadView {
  kind: 'experts' | 'routers';
  name: string;
  deployment: string;
  replicas: number;
  pods: PodCounts;
  /** Null where nothing is known of the load. */
  group: GroupLoad | null;
  router: RouterLoad | null;
  /** Null before a worker was seen. */
  memory: Memory | null;
  /** Ready pods whose metrics are missing. */
  missing: readonly string[];
  /** Routers whose queue does not move: it says nothing of the load. */
  stuck: readonly string[];
  /** Why nothing may be written to it at all. */
  blocks: readonly Block[];
  /** Its pods are being replaced: which of them would go cannot be told. */
  rolling: boolean;
  /** Pods that are being taken away; null when none is. */
  shrinking: { pods: readonly string[]; committed: boolean; why: string } | null;
  victim: Victim | null;
  /** Times since its replicas were raised and lowered, and how long its load has been watched, ms; null for never. */
  raisedMs: number | null;
  loweredMs: number | null;
  watchedMs: number;
  /** How long the youngest ready pod has been ready, ms; null without one. */
  youngestMs: number | null;
  /** It gave up a replica that cannot be scheduled: for so long it gets none back, ms. */
  yieldsMs: number;
}

/** Whether anybody wants the model. */
export interface Demand {
  /** Requests held by gateways, in gateways, and in routers. */
  held: number;
  inGateways: number;
  inRouters: number;
  /** Time for which nobody has asked for anything, ms; null where that is not known: no gateway tells. */
  idleMs: number | null;
}

/** Everything that a decision is made from, as plain data: it is kept with the decision, so that another policy can be tried on it. */
export interface View {
  /** Milliseconds since the Unix epoch. */
  atMs: number;
  workloads: readonly WorkloadView[];
  demand: Demand;
}
