import type { MetricInfo } from './metric-info.ts';

/** Upper bounds as the GenAI conventions of OpenTelemetry advise them; seconds, and tokens. */
const REQUEST_SECONDS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
const FIRST_TOKEN_SECONDS = [0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10];
const TOKEN_SECONDS = [0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5];
const USAGE_TOKENS = Array.from({ length: 14 }, (_, i) => 4 ** i);

const GEN_AI = ['gen_ai_operation_name', 'gen_ai_provider_name', 'gen_ai_request_model'] as const;

/**
 * Names of OpenTelemetry's conventions for generative AI as Prometheus writes them (`gen_ai.server.request.duration` in
 * seconds is `gen_ai_server_request_duration_seconds`), and what traces tell of themselves.
 */
export const TELEMETRY_METRICS = {
  gen_ai_server_request_duration_seconds: {
    type: 'histogram',
    help: 'Time of a completion request from its arrival to the last byte of its answer; error_type is the code of the error, empty without one.',
    labels: [...GEN_AI, 'error_type'],
    services: ['gateway'],
    buckets: REQUEST_SECONDS,
  },
  gen_ai_server_time_to_first_token_seconds: {
    type: 'histogram',
    help: 'Time from the arrival of a request to the first token of each of its choices.',
    labels: GEN_AI,
    services: ['gateway'],
    buckets: FIRST_TOKEN_SECONDS,
  },
  gen_ai_server_time_per_output_token_seconds: {
    type: 'histogram',
    help: 'Mean time per token after the first one, for each choice that has several.',
    labels: GEN_AI,
    services: ['gateway'],
    buckets: TOKEN_SECONDS,
  },
  gen_ai_client_token_usage: {
    type: 'histogram',
    help: 'Tokens of a request by gen_ai_token_type: input or output.',
    labels: [...GEN_AI, 'gen_ai_token_type'],
    services: ['gateway'],
    buckets: USAGE_TOKENS,
  },
  guildhall_trace_spans_exported_total: {
    type: 'counter',
    help: 'Spans that the collector has taken.',
    labels: [],
    services: ['all'],
  },
  guildhall_trace_spans_dropped_total: {
    type: 'counter',
    help: 'Spans that were lost by reason: queue_full (too many at once, or the collector is slow) or export_failed.',
    labels: ['reason'],
    services: ['all'],
  },
  guildhall_trace_spans_open: {
    type: 'gauge',
    help: 'Spans that are begun and have not ended.',
    labels: [],
    services: ['all'],
  },
} as const satisfies Record<string, MetricInfo>;
