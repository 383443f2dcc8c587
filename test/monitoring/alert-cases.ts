/** One situation: series over minutes, and whether an alert fires at a minute. Values are in promtool's notation. */
export interface AlertCase {
  alert: string;
  about: string;
  series: Record<string, string>;
  atMinute: number;
  fires: boolean;
}

const ID = 'namespace="ns",release="r"';
const one = (metric: string, labels: string, values: string): Record<string, string> => ({
  [`${metric}{${[ID, labels].filter((part) => part !== '').join(',')}}`]: values,
});

function pair(
  alert: string,
  atMinute: number,
  firing: Record<string, string>,
  quiet: Record<string, string>,
  about = '',
): AlertCase[] {
  return [
    { alert, about: about || 'fires', series: firing, atMinute, fires: true },
    { alert, about: 'stays quiet', series: quiet, atMinute, fires: false },
  ];
}

/** Counts of a histogram whose share `slow` is above the bound, at one observation a second. */
function histogram(metric: string, le: string, slow: number, minutes: number): Record<string, string> {
  const gateway = 'component="gateway",pod="g"';
  return {
    ...one(`${metric}_bucket`, `${gateway},le="${le}"`, `0+${60 * (1 - slow)}x${minutes}`),
    ...one(`${metric}_count`, gateway, `0+60x${minutes}`),
  };
}

function burns(alert: string, metric: string, le: string, factor: number, atMinute: number): AlertCase[] {
  const share = factor * 0.01;
  return [
    ...pair(
      alert,
      atMinute,
      histogram(metric, le, share * 1.2, atMinute),
      histogram(metric, le, share * 0.8, atMinute),
    ),
    { alert, about: 'stays quiet without requests', series: histogram(metric, le, 0, 0), atMinute, fires: false },
  ];
}

const TTFT = 'vllm:time_to_first_token_seconds';
const ITL = 'vllm:inter_token_latency_seconds';

/** For every alert a situation in which it fires and one in which it does not. */
export const CASES: readonly AlertCase[] = [
  ...pair(
    'GuildhallNoRouter',
    3,
    { ...one('guildhall_routers', 'pod="a"', '2x9'), ...one('guildhall_routers', 'pod="b"', '0x9') },
    one('guildhall_routers', 'pod="a"', '0 0 1x9'),
  ),
  ...pair(
    'GuildhallExpertsUncovered',
    3,
    one('guildhall_expert_coverage', 'pod="a"', '1 0.5x9'),
    one('guildhall_expert_coverage', 'pod="a"', '1 1 0.5 1x9'),
  ),
  ...pair(
    'GuildhallBelowRedundancy',
    12,
    {
      ...one('guildhall_placement_copies', 'kind="least",pod="c1"', '1x20'),
      ...one('guildhall_placement_copies', 'kind="wanted",pod="c1"', '2x20'),
    },
    {
      ...one('guildhall_placement_copies', 'kind="least",pod="c1"', '2x20'),
      ...one('guildhall_placement_copies', 'kind="wanted",pod="c1"', '2x20'),
    },
  ),
  ...pair(
    'GuildhallErrors',
    12,
    {
      ...one('guildhall_http_requests_total', 'status="200"', '0+95x20'),
      ...one('guildhall_http_requests_total', 'status="503"', '0+5x20'),
    },
    {
      ...one('guildhall_http_requests_total', 'status="200"', '0+995x20'),
      ...one('guildhall_http_requests_total', 'status="400"', '0+100x20'),
      ...one('guildhall_http_requests_total', 'status="503"', '0+5x20'),
    },
  ),
  ...pair('GuildhallStreamsLost', 5, one('guildhall_stream_resumes_total', 'outcome="failed"', '0 0 1x9'), {
    ...one('guildhall_stream_resumes_total', 'outcome="resumed"', '0+3x9'),
  }),
  ...pair(
    'GuildhallQueueSaturated',
    8,
    { ...one('vllm:num_requests_waiting', '', '50x20'), ...one('vllm:num_requests_running', '', '8x20') },
    { ...one('vllm:num_requests_waiting', '', '10x20'), ...one('vllm:num_requests_running', '', '2x20') },
  ),
  ...pair(
    'GuildhallQuarantine',
    5,
    one('guildhall_requests_quarantined_total', 'outcome="added"', '0 0 1x9'),
    one('guildhall_requests_quarantined_total', 'outcome="refused"', '0 0 1x9'),
  ),
  ...burns('GuildhallTtftBudgetBurnsFast', TTFT, '2.5', 14.4, 70),
  ...burns('GuildhallTtftBudgetBurns', TTFT, '2.5', 6, 400),
  ...burns('GuildhallItlBudgetBurnsFast', ITL, '0.1', 14.4, 70),
  ...burns('GuildhallItlBudgetBurns', ITL, '0.1', 6, 400),
  ...pair(
    'GuildhallExpertImbalance',
    18,
    one('guildhall_placement_imbalance', 'kind="measured"', '3x30'),
    one('guildhall_placement_imbalance', 'kind="predicted"', '3x30'),
  ),
  ...pair(
    'GuildhallWorkerBreakerOpen',
    8,
    one('guildhall_worker_breaker_open', 'worker="expert-1"', '1x20'),
    one('guildhall_worker_breaker_open', 'worker="expert-1"', '1 1 0 1 1 0x20'),
  ),
  ...pair(
    'GuildhallLoadsFail',
    12,
    one('guildhall_expert_load_failures_total', 'pod="e1",reason="io"', '0 0 1+1x20'),
    one('guildhall_expert_load_failures_total', 'pod="e1",reason="io"', '3x20'),
  ),
  ...pair(
    'GuildhallDrainStuck',
    40,
    one('guildhall_drains', 'state="moving"', '1x60'),
    one('guildhall_drains', 'state="done"', '1x60'),
  ),
  ...pair('GuildhallKvPressure', 12, one('vllm:kv_cache_usage_perc', 'pod="r1"', '0.99x20'), {
    ...one('vllm:kv_cache_usage_perc', 'pod="r1"', '0.99x20'),
    ...one('vllm:kv_cache_usage_perc', 'pod="r2"', '0.5x20'),
  }),
  {
    alert: 'GuildhallKvPressure',
    about: 'fires for preemptions',
    series: one('guildhall_preemptions_total', 'how="swap"', '0+120x20'),
    atMinute: 16,
    fires: true,
  },
  ...pair(
    'GuildhallCacheFaults',
    8,
    one('guildhall_kv_faults_total', 'pod="r1",kind="disk"', '0+5x20'),
    one('guildhall_kv_faults_total', 'pod="r1",kind="disk"', '0 1 2 2x20'),
  ),
  ...pair(
    'GuildhallNoLeader',
    5,
    {
      ...one('guildhall_controller_leader', 'pod="c1"', '0x9'),
      ...one('guildhall_controller_leader', 'pod="c2"', '0x9'),
    },
    {
      ...one('guildhall_controller_leader', 'pod="c1"', '1x9'),
      ...one('guildhall_controller_leader', 'pod="c2"', '0x9'),
    },
  ),
  {
    alert: 'GuildhallNoLeader',
    about: 'fires when every controller is gone',
    series: one('guildhall_build_info', 'service="router",pod="r1"', '1x9'),
    atMinute: 5,
    fires: true,
  },
  ...pair(
    'GuildhallTwoLeaders',
    4,
    {
      ...one('guildhall_controller_leader', 'pod="c1"', '1x9'),
      ...one('guildhall_controller_leader', 'pod="c2"', '1x9'),
    },
    {
      ...one('guildhall_controller_leader', 'pod="c1"', '1 1 0x9'),
      ...one('guildhall_controller_leader', 'pod="c2"', '0 1 1x9'),
    },
    'fires, unless it is the moment of a change',
  ),
  ...pair(
    'GuildhallRegistryDown',
    4,
    {
      ...one('guildhall_redis_up', 'component="router",pod="a"', '1x9'),
      ...one('guildhall_redis_up', 'component="router",pod="b"', '1 0x9'),
    },
    one('guildhall_redis_up', 'component="router",pod="a"', '1x9'),
  ),
  ...pair(
    'GuildhallProcessDown',
    8,
    one('up', 'component="expert",pod="e1"', '1 0x20'),
    one('up', 'component="node",pod="e1"', '0x20'),
  ),
  ...pair(
    'GuildhallEventLoopLate',
    14,
    one('nodejs_eventloop_lag_p99_seconds', 'pod="g"', '0.8x30'),
    one('nodejs_eventloop_lag_p99_seconds', 'pod="g"', '0.1x30'),
  ),
  ...pair(
    'GuildhallAutoscalerBlocked',
    20,
    one('guildhall_autoscaler_alarms', 'group="gpu",reason="unschedulable"', '1x30'),
    one('guildhall_autoscaler_alarms', 'group="gpu",reason="unschedulable"', '1x9 _x30'),
  ),
  ...pair(
    'GuildhallAutoscalerBlind',
    12,
    {
      ...one('guildhall_autoscaler_evaluations_total', 'outcome="blind"', '0+12x20'),
      ...one('guildhall_controller_leader', 'pod="c1"', '1x20'),
    },
    {
      ...one('guildhall_autoscaler_evaluations_total', 'outcome="blind"', '0+1x20'),
      ...one('guildhall_autoscaler_evaluations_total', 'outcome="decided"', '0+12x20'),
      ...one('guildhall_controller_leader', 'pod="c1"', '1x20'),
    },
  ),
  ...pair(
    'GuildhallWatchStale',
    8,
    one('guildhall_k8s_watch_age_seconds', 'pod="c1",kind="pods"', '400+60x20'),
    one('guildhall_k8s_watch_age_seconds', 'pod="c1",kind="pods"', '60x20'),
  ),
  ...pair(
    'GuildhallQuotasUnchecked',
    12,
    one('guildhall_quota_checks_total', 'outcome="unchecked_open"', '0+60x20'),
    one('guildhall_quota_checks_total', 'outcome="tokens"', '0+60x20'),
  ),
  ...pair(
    'GuildhallUsageLost',
    5,
    one('guildhall_usage_lost_total', 'pod="g1"', '0 0 3x9'),
    one('guildhall_usage_lost_total', 'pod="g1"', '3x9'),
  ),
  ...pair(
    'GuildhallResponsesNotStored',
    9,
    one('guildhall_responses_stored_total', 'outcome="failed"', '0 0 2x20'),
    one('guildhall_responses_stored_total', 'outcome="stored"', '0+9x20'),
  ),
  ...pair(
    'GuildhallBatchesStuck',
    20,
    {
      ...one('guildhall_batch_queue_depth', 'pod="b1"', '2x30'),
      ...one('guildhall_batches_running', 'pod="b1"', '0x30'),
    },
    {
      ...one('guildhall_batch_queue_depth', 'pod="b1"', '2x30'),
      ...one('guildhall_batches_running', 'pod="b1"', '0x30'),
      ...one('guildhall_batches_running', 'pod="b2"', '1x30'),
    },
  ),
];
