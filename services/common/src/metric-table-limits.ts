import { LATENCY, type MetricInfo } from './metric-info.ts';

/** Metrics of keys, quotas, usage and admission. */
export const LIMIT_METRICS = {
  guildhall_key_refusals_total: {
    type: 'counter',
    help: 'Requests refused for their key: missing, invalid, expired, throttled (too many wrong ones from the address), unchecked (Redis is away), or a wrong cluster token (cluster).',
    labels: ['outcome'],
    services: ['gateway'],
  },
  guildhall_refusals_total: {
    type: 'counter',
    help: 'Requests turned away by reason, as in the header x-guildhall-reason.',
    labels: ['reason'],
    services: ['gateway'],
  },
  guildhall_quota_checks_total: {
    type: 'counter',
    help: 'Looks at quotas: taken, refused for requests, tokens, concurrency or too_large, or unchecked_open and unchecked_closed (Redis is away, and the request goes on or not).',
    labels: ['outcome'],
    services: ['gateway'],
  },
  guildhall_gateway_queue_total: {
    type: 'counter',
    help: 'Completions that waited for a place: served, timeout, full (no room to wait), gone (nobody waited any more) or draining.',
    labels: ['outcome'],
    services: ['gateway'],
  },
  guildhall_gateway_queue_seconds: {
    type: 'histogram',
    help: 'How long completions waited for a place.',
    labels: [],
    services: ['gateway'],
    buckets: LATENCY,
  },
  guildhall_gateway_queued_requests: {
    type: 'gauge',
    help: 'Completions that wait for a place.',
    labels: [],
    services: ['gateway'],
  },
  guildhall_tenant_requests_total: {
    type: 'counter',
    help: 'Completions that began, by tenant; --metric-tenants bounds how many tenants are told apart.',
    labels: ['tenant'],
    services: ['gateway'],
  },
  guildhall_tenant_tokens_total: {
    type: 'counter',
    help: 'Tokens by tenant and kind: input, cached (of the input), output, reasoning (of the output).',
    labels: ['tenant', 'kind'],
    services: ['gateway'],
  },
  guildhall_tenant_expert_seconds_total: {
    type: 'counter',
    help: 'Time that workers computed experts, by tenant.',
    labels: ['tenant'],
    services: ['gateway'],
  },
  guildhall_usage_lost_total: {
    type: 'counter',
    help: 'Requests whose usage was not recorded, because Redis was away and too many keys were in use.',
    labels: [],
    services: ['gateway'],
  },
} as const satisfies Record<string, MetricInfo>;
