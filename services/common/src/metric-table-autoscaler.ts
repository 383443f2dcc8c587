import type { MetricInfo } from './metric-info.ts';

/** Metrics of the autoscaler, and of gateways that hold requests while the model wakes up. */
export const AUTOSCALER_METRICS = {
  guildhall_autoscaler_desired_replicas: {
    type: 'gauge',
    help: 'Replicas that the autoscaler wants of an expert group or of the routers.',
    labels: ['group'],
    services: ['controller'],
  },
  guildhall_autoscaler_actual_replicas: {
    type: 'gauge',
    help: 'Replicas that the Deployment asks for.',
    labels: ['group'],
    services: ['controller'],
  },
  guildhall_autoscaler_ready_replicas: {
    type: 'gauge',
    help: 'Replicas that are ready.',
    labels: ['group'],
    services: ['controller'],
  },
  guildhall_autoscaler_utilisation: {
    type: 'gauge',
    help: 'Share of its time that each ready replica computes (experts), or of its limits that it uses (routers); above 1 where more is asked for.',
    labels: ['group'],
    services: ['controller'],
  },
  guildhall_autoscaler_decisions_total: {
    type: 'counter',
    help: 'Changes that the autoscaler decided on, by reason; in mode recommend they are not carried out.',
    labels: ['group', 'reason'],
    services: ['controller'],
  },
  guildhall_autoscaler_writes_total: {
    type: 'counter',
    help: 'Steps of its plans by outcome: done, conflict or refused.',
    labels: ['step', 'outcome'],
    services: ['controller'],
  },
  guildhall_autoscaler_alarms: {
    type: 'gauge',
    help: '1 while the autoscaler has something to complain of, by reason.',
    labels: ['group', 'reason'],
    services: ['controller'],
  },
  guildhall_autoscaler_evaluations_total: {
    type: 'counter',
    help: 'Evaluations by outcome: decided, or blind while the API server, Redis or the policy cannot be read.',
    labels: ['outcome'],
    services: ['controller'],
  },
  guildhall_autoscaler_asleep: {
    type: 'gauge',
    help: '1 while the whole model is scaled to zero.',
    labels: [],
    services: ['controller'],
  },
  guildhall_gateway_held_requests: {
    type: 'gauge',
    help: 'Requests that are held until a router is there.',
    labels: [],
    services: ['gateway'],
  },
  guildhall_gateway_holds_total: {
    type: 'counter',
    help: 'Requests that were held, by outcome: served, timeout, gone (the client left, or the gateway ended) or refused (too many).',
    labels: ['outcome'],
    services: ['gateway'],
  },
  guildhall_gateway_hold_seconds: {
    type: 'histogram',
    help: 'Time for which requests that were served were held.',
    labels: [],
    services: ['gateway'],
    buckets: [0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200],
  },
} as const satisfies Record<string, MetricInfo>;
