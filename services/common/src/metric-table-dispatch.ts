import { LATENCY, type MetricInfo, SHORT } from './metric-info.ts';

/** Metrics of a router about the rows that it sends to workers. */
export const DISPATCH_METRICS = {
  guildhall_dispatch_seconds: {
    type: 'histogram',
    help: 'From sending the rows of a layer to its last reply.',
    labels: ['lane'],
    services: ['router'],
    buckets: SHORT,
  },
  guildhall_dispatch_messages_total: {
    type: 'counter',
    help: 'Forward messages by worker and reply status.',
    labels: ['worker', 'status'],
    services: ['router'],
  },
  guildhall_dispatch_bytes_total: {
    type: 'counter',
    help: 'Bytes of rows sent to and received from workers.',
    labels: ['worker', 'direction'],
    services: ['router'],
  },
  guildhall_dispatch_retries_total: {
    type: 'counter',
    help: 'Rows sent again, by reason.',
    labels: ['reason'],
    services: ['router'],
  },
  guildhall_dispatch_hedges_total: {
    type: 'counter',
    help: 'Second calls for stragglers: sent, denied by the budget, won or lost against the first.',
    labels: ['outcome'],
    services: ['router'],
  },
  guildhall_dispatch_late_replies_total: {
    type: 'counter',
    help: 'Replies that came after the rows had come from elsewhere, by worker.',
    labels: ['worker'],
    services: ['router'],
  },
  guildhall_dispatch_rows_total: {
    type: 'counter',
    help: 'Token rows dispatched, once for each layer.',
    labels: [],
    services: ['router'],
  },
  guildhall_dispatch_row_workers_total: {
    type: 'counter',
    help: 'Workers that those rows were sent to at first: divided by them, the workers that a token touches.',
    labels: [],
    services: ['router'],
  },
  guildhall_dispatch_failover_seconds: {
    type: 'histogram',
    help: 'From making the first call of a layer that failed or was late to the last of its rows.',
    labels: [],
    services: ['router'],
    buckets: LATENCY,
  },
  guildhall_worker_breaker_open: {
    type: 'gauge',
    help: '1 for a worker that is sent only what nobody else can answer.',
    labels: ['worker'],
    services: ['router'],
  },
  guildhall_experts_lost_total: {
    type: 'counter',
    help: '(layer, expert) pairs that lost their last live worker.',
    labels: [],
    services: ['router'],
  },
  guildhall_experts_recovered_total: {
    type: 'counter',
    help: '(layer, expert) pairs that have a live worker again.',
    labels: [],
    services: ['router'],
  },
  guildhall_fallback_experts: {
    type: 'gauge',
    help: 'Experts that this router holds to compute what no worker does.',
    labels: [],
    services: ['router'],
  },
  guildhall_fallback_loads_total: {
    type: 'counter',
    help: 'Experts that this router loaded for that.',
    labels: [],
    services: ['router'],
  },
  guildhall_fallback_rows_total: {
    type: 'counter',
    help: 'Expert rows that this router computed itself.',
    labels: [],
    services: ['router'],
  },
} as const satisfies Record<string, MetricInfo>;
