import type { AutoscalerPolicy } from '../policy.ts';

/** A group of simulated workers. */
export interface SimGroup {
  name: string;
  /** First expert and number of experts that its workers can load; null for all. */
  share: { from: number; count: number } | null;
  /** Rows a second of one worker. */
  rowsPerSecond: number;
  /** Experts that a worker has memory for. */
  slots: number;
  replicas: number;
  gpus: number;
}

/** Something that happens to the cluster at a time. */
export type SimFault = { atMs: number; forMs: number } & (
  | { kind: 'no_metrics'; workload: string; how: 'absent' | 'nan' }
  | { kind: 'writes_fail'; workload: string; outcome: 'conflict' | 'refused' }
  | { kind: 'blind' }
  | { kind: 'crash' }
  | { kind: 'foreign_writer'; workload: string; replicas: number }
  | { kind: 'no_nodes' }
  | { kind: 'pod_lost'; workload: string }
);

/** What is simulated. Everything that happens follows from it: two runs are alike. */
export interface Scenario {
  name: string;
  policy: AutoscalerPolicy;
  groups: readonly SimGroup[];
  routers: { replicas: number; gpus: number; sequences: number };
  layers: number;
  experts: number;
  topK: number;
  /** GPUs of the machines; there is room for pods without GPUs always. */
  gpus: number;
  /** From the creation of a pod until it is ready, ms: experts and routers. */
  coldStartMs: number;
  /** Workers compute at this share of their speed for a while after their start. */
  warmUp: { forMs: number; speed: number };
  /** Requests a second at a time. */
  load: (atMs: number) => number;
  /** Share of the rows that goes to each expert, in order; null for equal shares. */
  popularity: ((atMs: number) => readonly number[]) | null;
  /** Tokens that a request generates, and time between them when nothing waits, ms. */
  tokens: number;
  tokenMs: number;
  faults: readonly SimFault[];
  forMs: number;
  seed: number;
}

/** Load that is one number. */
export function constant(rate: number): Scenario['load'] {
  return () => rate;
}

/** Load that steps from one number to another. */
export function step(atMs: number, before: number, after: number): Scenario['load'] {
  return (nowMs) => (nowMs < atMs ? before : after);
}

/** Load that rises evenly. */
export function ramp(fromMs: number, toMs: number, before: number, after: number): Scenario['load'] {
  return (nowMs) => before + (after - before) * Math.min(1, Math.max(0, (nowMs - fromMs) / (toMs - fromMs)));
}

/** A day: a sine between two numbers. */
export function diurnal(periodMs: number, least: number, most: number): Scenario['load'] {
  return (nowMs) => least + ((most - least) / 2) * (1 - Math.cos((2 * Math.PI * nowMs) / periodMs));
}

/** A steady load with short peaks. */
export function spikes(everyMs: number, lengthMs: number, base: number, peak: number): Scenario['load'] {
  return (nowMs) => (nowMs % everyMs < lengthMs && nowMs > everyMs / 2 ? peak : base);
}
