/** Where a metric is exposed. */
export type MetricService = 'gateway' | 'router' | 'expert' | 'controller' | 'all';

export interface MetricInfo {
  type: 'counter' | 'gauge' | 'histogram';
  help: string;
  labels: readonly string[];
  services: readonly MetricService[];
  /** Upper bounds, histograms only; seconds where the name says so. */
  buckets?: readonly number[];
}

const LATENCY = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120];
const SHORT = [0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5];
const TOKENS = [1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144];
const MODEL = ['model_name'] as const;

/**
 * Every metric there is. Names that start with `vllm:` mean what they mean in vLLM, so that its dashboards and
 * autoscalers work; everything else starts with `guildhall_`.
 */
export const METRICS = {
  'vllm:num_requests_running': {
    type: 'gauge',
    help: 'Sequences that take part in steps.',
    labels: MODEL,
    services: ['router'],
  },
  'vllm:num_requests_waiting': {
    type: 'gauge',
    help: 'Sequences that wait to be admitted.',
    labels: MODEL,
    services: ['router'],
  },
  'vllm:kv_cache_usage_perc': {
    type: 'gauge',
    help: 'Share of KV pages in use, 0 to 1.',
    labels: MODEL,
    services: ['router'],
  },
  'vllm:num_preemptions_total': {
    type: 'counter',
    help: 'Sequences that gave their pages up.',
    labels: MODEL,
    services: ['router'],
  },
  'vllm:prefix_cache_queries_total': {
    type: 'counter',
    help: 'Prompt tokens that were looked up in the prefix cache.',
    labels: MODEL,
    services: ['router'],
  },
  'vllm:prefix_cache_hits_total': {
    type: 'counter',
    help: 'Prompt tokens that were found there and not computed.',
    labels: MODEL,
    services: ['router'],
  },
  'vllm:prompt_tokens_by_source_total': {
    type: 'counter',
    help: 'Prompt tokens by where they came from: local_compute, local_cache_hit or external_kv_transfer (taken over from another router).',
    labels: ['model_name', 'source'],
    services: ['router'],
  },
  guildhall_kv_hit_tokens_total: {
    type: 'counter',
    help: 'Prompt tokens found in the prefix cache, by the tier that had them: device, host, disk or peer.',
    labels: ['tier'],
    services: ['router'],
  },
  guildhall_preemptions_total: {
    type: 'counter',
    help: 'Sequences that gave their pages up, by how: swap (copied out of the pool) or recompute.',
    labels: ['how'],
    services: ['router'],
  },
  guildhall_swap_bytes_total: {
    type: 'counter',
    help: 'Bytes of preempted sequences that were copied out of the pool, or in again.',
    labels: ['direction'],
    services: ['router'],
  },
  guildhall_swap_lost_total: {
    type: 'counter',
    help: 'Sequences that were copied out of the pool and had to be computed again nevertheless.',
    labels: [],
    services: ['router'],
  },
  guildhall_tenants_waiting: {
    type: 'gauge',
    help: 'Tenants of which sequences wait to be admitted.',
    labels: [],
    services: ['router'],
  },
  guildhall_tenant_spread_tokens: {
    type: 'gauge',
    help: 'How far the tenants that wait are apart in weighted tokens served.',
    labels: [],
    services: ['router'],
  },
  'vllm:prompt_tokens_total': {
    type: 'counter',
    help: 'Prompt tokens processed.',
    labels: MODEL,
    services: ['router'],
  },
  'vllm:generation_tokens_total': { type: 'counter', help: 'Tokens generated.', labels: MODEL, services: ['router'] },
  'vllm:request_success_total': {
    type: 'counter',
    help: 'Finished requests by reason.',
    labels: ['model_name', 'finished_reason'],
    services: ['router'],
  },
  'vllm:time_to_first_token_seconds': {
    type: 'histogram',
    help: 'From arrival to the first token.',
    labels: MODEL,
    services: ['router', 'gateway'],
    buckets: LATENCY,
  },
  'vllm:inter_token_latency_seconds': {
    type: 'histogram',
    help: 'Between two tokens of a stream.',
    labels: MODEL,
    services: ['router', 'gateway'],
    buckets: LATENCY,
  },
  'vllm:time_per_output_token_seconds': {
    type: 'histogram',
    help: 'Older name of the inter-token latency, for dashboards that chart it.',
    labels: MODEL,
    services: ['router'],
    buckets: LATENCY,
  },
  'vllm:request_time_per_output_token_seconds': {
    type: 'histogram',
    help: 'Mean time per token of a finished request.',
    labels: MODEL,
    services: ['router'],
    buckets: LATENCY,
  },
  'vllm:e2e_request_latency_seconds': {
    type: 'histogram',
    help: 'From arrival to the end of a request.',
    labels: MODEL,
    services: ['router', 'gateway'],
    buckets: LATENCY,
  },
  'vllm:request_queue_time_seconds': {
    type: 'histogram',
    help: 'Waiting before the first step.',
    labels: MODEL,
    services: ['router'],
    buckets: LATENCY,
  },
  'vllm:request_prefill_time_seconds': {
    type: 'histogram',
    help: 'From admission to the first token.',
    labels: MODEL,
    services: ['router'],
    buckets: LATENCY,
  },
  'vllm:request_decode_time_seconds': {
    type: 'histogram',
    help: 'From the first to the last token.',
    labels: MODEL,
    services: ['router'],
    buckets: LATENCY,
  },
  'vllm:request_prompt_tokens': {
    type: 'histogram',
    help: 'Prompt tokens of a request.',
    labels: MODEL,
    services: ['router'],
    buckets: TOKENS,
  },
  'vllm:request_generation_tokens': {
    type: 'histogram',
    help: 'Generated tokens of a request.',
    labels: MODEL,
    services: ['router'],
    buckets: TOKENS,
  },
  guildhall_prefill_pauses_total: {
    type: 'counter',
    help: 'Times that a prefill call stopped in its middle for decode, or because its time was used up.',
    labels: [],
    services: ['router'],
  },
  'vllm:iteration_tokens_total': {
    type: 'histogram',
    help: 'Tokens of a step.',
    labels: MODEL,
    services: ['router'],
    buckets: TOKENS,
  },

  guildhall_http_requests_total: {
    type: 'counter',
    help: 'HTTP requests by route and status.',
    labels: ['route', 'method', 'status'],
    services: ['gateway'],
  },
  guildhall_http_request_seconds: {
    type: 'histogram',
    help: 'HTTP requests to the end of the answer.',
    labels: ['route'],
    services: ['gateway'],
    buckets: LATENCY,
  },
  guildhall_http_in_flight: { type: 'gauge', help: 'Completions that run now.', labels: [], services: ['gateway'] },
  guildhall_http_streams: { type: 'gauge', help: 'SSE streams open now.', labels: [], services: ['gateway'] },
  guildhall_http_tokens_total: {
    type: 'counter',
    help: 'Tokens of answered requests as their usage says, by kind: prompt, completion.',
    labels: ['model_name', 'kind'],
    services: ['gateway'],
  },
  guildhall_stream_resumes_total: {
    type: 'counter',
    help: 'Streams that changed their router, by outcome: resumed (the old one was lost), moved (it drained), failed.',
    labels: ['outcome'],
    services: ['gateway'],
  },
  guildhall_stream_pause_seconds: {
    type: 'histogram',
    help: 'Time from when a stream lost its router, was moved away or failed there until its next token came from another one.',
    labels: [],
    services: ['gateway'],
    buckets: LATENCY,
  },
  guildhall_requests_quarantined_total: {
    type: 'counter',
    help: 'Requests that broke processes, by outcome: added (refused from then on), refused.',
    labels: ['outcome'],
    services: ['gateway'],
  },
  guildhall_routing_decisions_total: {
    type: 'counter',
    help: 'Choices of a router by reason: kv, load, round-robin, only (one candidate), away or slow (no answer of the directory: by load).',
    labels: ['reason'],
    services: ['gateway'],
  },
  guildhall_routing_cached_tokens_total: {
    type: 'counter',
    help: 'Prompt tokens that the chosen router was expected to have (own) or to pull from another one (peer).',
    labels: ['source'],
    services: ['gateway'],
  },
  guildhall_routing_predicted_ttft_seconds: {
    type: 'histogram',
    help: 'Predicted time until the first token in the chosen router.',
    labels: [],
    services: ['gateway'],
    buckets: LATENCY,
  },
  guildhall_routing_lookups_total: {
    type: 'counter',
    help: 'Lookups of cached prefixes by outcome: hit, miss, slow, away, skipped (while Redis is away or slow).',
    labels: ['outcome'],
    services: ['gateway'],
  },
  guildhall_routing_lookup_seconds: {
    type: 'histogram',
    help: 'One lookup of cached prefixes, as the request waited for it.',
    labels: [],
    services: ['gateway'],
    buckets: SHORT,
  },
  guildhall_routers: {
    type: 'gauge',
    help: 'Live routers that this gateway may use.',
    labels: [],
    services: ['gateway'],
  },
  guildhall_errors_total: {
    type: 'counter',
    help: 'Errors given to callers, by code.',
    labels: ['code'],
    services: ['gateway', 'router', 'expert'],
  },

  guildhall_step_seconds: {
    type: 'histogram',
    help: 'One step of the engine.',
    labels: ['lane'],
    services: ['router'],
    buckets: LATENCY,
  },
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
  guildhall_expert_rows_total: {
    type: 'counter',
    help: 'Expert rows by the worker that computed them.',
    labels: ['worker'],
    services: ['router', 'expert'],
  },
  guildhall_expert_streams: {
    type: 'gauge',
    help: 'Open streams to workers (router) or from routers (worker).',
    labels: ['lane'],
    services: ['router', 'expert'],
  },
  guildhall_expert_coverage: {
    type: 'gauge',
    help: 'Share of (layer, expert) pairs that a live worker holds, 0 to 1.',
    labels: [],
    services: ['router', 'controller'],
  },
  guildhall_kv_pages: {
    type: 'gauge',
    help: 'KV pages by state: free, used, or cached for prompts to come.',
    labels: ['state'],
    services: ['router'],
  },
  guildhall_state_slots: {
    type: 'gauge',
    help: 'DeltaNet state slots by state.',
    labels: ['state'],
    services: ['router'],
  },
  guildhall_kv_tier_capacity_bytes: {
    type: 'gauge',
    help: 'Limit of a tier of the page cache.',
    labels: ['tier'],
    services: ['router'],
  },
  guildhall_kv_tier_bytes: {
    type: 'gauge',
    help: 'Bytes that a tier of the page cache uses; on disk in whole blocks, with those of other models there.',
    labels: ['tier'],
    services: ['router'],
  },
  guildhall_kv_tier_held_bytes: {
    type: 'gauge',
    help: 'Bytes of sequences that were swapped out to a tier, part of what it uses.',
    labels: ['tier'],
    services: ['router'],
  },
  guildhall_kv_tier_blobs: {
    type: 'gauge',
    help: 'Pages and states in a tier of the page cache.',
    labels: ['tier', 'kind'],
    services: ['router'],
  },
  guildhall_kv_evictions_total: {
    type: 'counter',
    help: 'Pages and states that left a tier, by reason: evicted, leased (evicted while another router was about to fetch it), deleted, fault.',
    labels: ['tier', 'reason'],
    services: ['router'],
  },
  guildhall_kv_write_backs_total: {
    type: 'counter',
    help: 'Pages and states that were to be written to disk, by outcome: written, dropped (not worth it, or the disk is slow), failed.',
    labels: ['outcome'],
    services: ['router'],
  },
  guildhall_kv_faults_total: {
    type: 'counter',
    help: 'Faults of the page cache by kind; each costs a recomputation and nothing else.',
    labels: ['kind'],
    services: ['router'],
  },

  guildhall_kv_pulls_total: {
    type: 'counter',
    help: 'Transfers of pages from other routers by outcome: complete, partial, no_room, cancelled or a fault; slower and avoided were not begun.',
    labels: ['outcome'],
    services: ['router'],
  },
  guildhall_kv_pull_seconds: {
    type: 'histogram',
    help: 'One transfer of pages from another router.',
    labels: [],
    services: ['router'],
    buckets: LATENCY,
  },
  guildhall_kv_pulled_bytes_total: {
    type: 'counter',
    help: 'Bytes of pages and states pulled from other routers and found good.',
    labels: ['kind'],
    services: ['router'],
  },
  guildhall_kv_fetches_total: {
    type: 'counter',
    help: 'Transfers of pages to other routers by outcome.',
    labels: ['outcome'],
    services: ['router'],
  },
  guildhall_kv_served_bytes_total: {
    type: 'counter',
    help: 'Bytes of pages and states sent to other routers.',
    labels: [],
    services: ['router'],
  },
  guildhall_sequences_moved_total: {
    type: 'counter',
    help: 'Sequences that this router has moved away: parked with their pages, or as a request only.',
    labels: ['how'],
    services: ['router'],
  },
  guildhall_parked_sequences: {
    type: 'gauge',
    help: 'Sequences that wait here to be taken over by another router.',
    labels: [],
    services: ['router'],
  },
  guildhall_parked_ended_total: {
    type: 'counter',
    help: 'Parked sequences by how they left: taken, expired or dropped.',
    labels: ['how'],
    services: ['router'],
  },
  guildhall_sequence_takeovers_total: {
    type: 'counter',
    help: 'Moved sequences taken over from other routers by outcome; those that are not taken are computed again.',
    labels: ['outcome'],
    services: ['router'],
  },

  guildhall_experts_held: { type: 'gauge', help: 'Experts that can be served.', labels: [], services: ['expert'] },
  guildhall_expert_loads_total: {
    type: 'counter',
    help: 'Experts loaded or dropped, by outcome.',
    labels: ['outcome'],
    services: ['expert'],
  },
  guildhall_expert_queue_seconds: {
    type: 'histogram',
    help: 'Waiting of a Forward before its computation.',
    labels: ['lane'],
    services: ['expert'],
    buckets: SHORT,
  },
  guildhall_expert_compute_seconds: {
    type: 'histogram',
    help: 'Computation of a Forward.',
    labels: ['lane'],
    services: ['expert'],
    buckets: SHORT,
  },
  guildhall_expert_replies_total: {
    type: 'counter',
    help: 'Replies by status.',
    labels: ['lane', 'status'],
    services: ['expert'],
  },
  guildhall_expert_queue_depth: {
    type: 'gauge',
    help: 'Forward messages that wait.',
    labels: ['lane'],
    services: ['expert'],
  },

  guildhall_controller_leader: {
    type: 'gauge',
    help: '1 while this controller leads.',
    labels: [],
    services: ['controller'],
  },
  guildhall_placements_total: {
    type: 'counter',
    help: 'Placement epochs published, by outcome.',
    labels: ['outcome'],
    services: ['controller'],
  },
  guildhall_workers: { type: 'gauge', help: 'Expert workers by state.', labels: ['state'], services: ['controller'] },

  guildhall_epoch: {
    type: 'gauge',
    help: 'Placement epoch in use (router), held (worker) or published (controller).',
    labels: [],
    services: ['router', 'expert', 'controller'],
  },
  guildhall_directory_seconds: {
    type: 'histogram',
    help: 'Round trips to the directory of pages in Redis, by operation and outcome: ok, failed.',
    labels: ['op', 'outcome'],
    services: ['router', 'gateway'],
    buckets: SHORT,
  },
  guildhall_directory_changes_total: {
    type: 'counter',
    help: 'Pages and states that this router published to the directory: added (or moved between tiers), removed.',
    labels: ['change'],
    services: ['router'],
  },
  guildhall_directory_entries: {
    type: 'gauge',
    help: 'Pages and states of this router by state: listed in the directory, pending, waiting for room in Redis.',
    labels: ['state'],
    services: ['router'],
  },
  guildhall_redis_up: { type: 'gauge', help: '1 while Redis answers.', labels: [], services: ['all'] },
  guildhall_lease_renewals_total: {
    type: 'counter',
    help: 'Renewals of this process’s own lease, by outcome.',
    labels: ['outcome'],
    services: ['all'],
  },
  guildhall_native_bytes: {
    type: 'gauge',
    help: 'Native memory by kind.',
    labels: ['kind'],
    services: ['router', 'expert'],
  },
  guildhall_build_info: {
    type: 'gauge',
    help: 'Always 1; labels say what runs.',
    labels: ['service', 'version', 'numerics_id'],
    services: ['all'],
  },
} as const satisfies Record<string, MetricInfo>;

export type MetricName = keyof typeof METRICS;
