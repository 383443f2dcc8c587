import { LATENCY, type MetricInfo } from './metric-info.ts';

/** Metrics of the batch service. */
export const BATCH_METRICS = {
  guildhall_batch_queue_depth: {
    type: 'gauge',
    help: 'Batches that wait for their turn. What replicas of the batch service are scaled by.',
    labels: [],
    services: ['batch'],
  },
  guildhall_batches_running: {
    type: 'gauge',
    help: 'Batches that this process works on.',
    labels: [],
    services: ['batch'],
  },
  guildhall_batches_total: {
    type: 'counter',
    help: 'Batches by how they ended: completed, failed, expired or cancelled.',
    labels: ['status'],
    services: ['batch'],
  },
  guildhall_batch_lines_total: {
    type: 'counter',
    help: 'Lines of batches by outcome: completed, failed, expired, or retried (the API had no room or was away).',
    labels: ['outcome'],
    services: ['batch'],
  },
  guildhall_batch_line_seconds: {
    type: 'histogram',
    help: 'One line of a batch, with its retries.',
    labels: [],
    services: ['batch'],
    buckets: LATENCY,
  },
  guildhall_file_bytes_total: {
    type: 'counter',
    help: 'Bytes of files stored and read.',
    labels: ['direction'],
    services: ['batch'],
  },
} as const satisfies Record<string, MetricInfo>;
