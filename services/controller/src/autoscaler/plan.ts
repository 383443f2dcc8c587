import type { Reason } from './reasons.ts';
import type { Block } from './view.ts';

/** One write to the cluster. Steps are carried out in order, and none after one that failed. */
export type Step = { workload: string; deployment: string; reason: Reason; message: string } & (
  { kind: 'scale'; from: number; to: number } | { kind: 'shrink'; pods: readonly string[] } | { kind: 'abort' }
);

/** What is wanted of one workload, and what comes of it. */
export interface Decision {
  workload: string;
  deployment: string;
  kind: 'experts' | 'routers';
  /** Replicas that it has. */
  actual: number;
  /** Replicas that it is to have. */
  desired: number;
  /** Share of its time that a replica computes (experts), of its KV pages that are used (routers); null where unknown. */
  utilisation: number | null;
  /** The same with the desired replicas. */
  predicted: number | null;
  reason: Reason;
  /** Figures behind the reason. */
  message: string;
  /** What holds the change back. */
  holds: readonly Block[];
}

/** Something that a person should look at. */
export interface Alarm extends Block {
  workload: string;
}

/** What is to be done now. */
export interface Plan {
  atMs: number;
  /** Of the whole model: `asleep` while everything is at zero. */
  state: 'awake' | 'falling_asleep' | 'asleep' | 'waking';
  decisions: readonly Decision[];
  steps: readonly Step[];
  alarms: readonly Alarm[];
  /** Predicted time between two tokens, 95th percentile, now and with the desired replicas, ms; null where unknown. */
  itlMs: { now: number; desired: number } | null;
}
