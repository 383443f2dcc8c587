import type { MetricInfo } from './metric-info.ts';

/** What the controller does with the API server of Kubernetes. */
export const KUBERNETES_METRICS = {
  guildhall_k8s_watch_age_seconds: {
    type: 'gauge',
    help: 'Time since the API server last said anything about a collection; it sends a bookmark about once a minute.',
    labels: ['kind'],
    services: ['controller'],
  },
  guildhall_k8s_relists_total: {
    type: 'counter',
    help: 'Collections listed as a whole, by why: start, expired, silent, resync, failed.',
    labels: ['kind', 'reason'],
    services: ['controller'],
  },
  guildhall_k8s_writes_total: {
    type: 'counter',
    help: 'Writes to the API server by what is written (scale, deletion_cost, event) and by outcome.',
    labels: ['what', 'outcome'],
    services: ['controller'],
  },
} as const satisfies Record<string, MetricInfo>;
