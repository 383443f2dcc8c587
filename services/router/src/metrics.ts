import type { Metrics } from '@guildhall/common';
import type { RouterConfig } from './config.ts';
import type { EngineObserver } from './engine.ts';
import type { ExpertObserver } from './experts/observer.ts';
import { PAGE_TOKENS, type PagePool } from './kv/page-pool.ts';
import type { LoadedModel } from './load-model.ts';
import type { StateSlots } from './kv/state-slots.ts';
import type { Scheduler } from './scheduler/scheduler.ts';

/** The engine's events as metrics; `modelName` labels those that vLLM has too. */
export function engineObserver(metrics: Metrics, modelName: string): EngineObserver {
  const model = { model_name: modelName };
  const seconds = (ms: number): number => ms / 1000;
  return {
    step(lane, tokens, ms) {
      metrics.observe('guildhall_step_seconds', seconds(ms), { lane });
      metrics.observe('vllm:iteration_tokens_total', tokens, model);
    },
    preempted(_seq, how) {
      metrics.count('vllm:num_preemptions_total', model);
      metrics.count('guildhall_preemptions_total', { how });
    },
    admitted(seq) {
      const { prefix } = seq;
      if (prefix === null) return;
      const cached = prefix.cachedTokens;
      metrics.count('vllm:prefix_cache_queries_total', model, seq.numPrompt);
      metrics.count('vllm:prefix_cache_hits_total', model, cached);
      // What was taken over from another router is in place as well, and no hit of this one's cache.
      const present = Math.max(cached, Math.min(seq.numComputed, seq.numPrompt));
      const computed = seq.numPrompt - present;
      metrics.count('vllm:prompt_tokens_by_source_total', { ...model, source: 'local_compute' }, computed);
      const source = 'external_kv_transfer';
      metrics.count('vllm:prompt_tokens_by_source_total', { ...model, source }, present - cached);
      metrics.count('vllm:prompt_tokens_by_source_total', { ...model, source: 'local_cache_hit' }, cached);
      for (const [tier, tokens] of prefix.cached ?? [])
        metrics.count('guildhall_kv_hit_tokens_total', { tier }, tokens);
    },
    token(seq, previousAtMs, nowMs) {
      metrics.count('vllm:generation_tokens_total', model);
      if (previousAtMs === null) {
        metrics.count('vllm:prompt_tokens_total', model, seq.numPrompt);
        metrics.observe('vllm:time_to_first_token_seconds', seconds(nowMs - seq.arrivedAtMs), model);
      } else {
        metrics.observe('vllm:inter_token_latency_seconds', seconds(nowMs - previousAtMs), model);
        metrics.observe('vllm:time_per_output_token_seconds', seconds(nowMs - previousAtMs), model);
      }
    },
    finished(seq, reason, nowMs) {
      const { queueMs, prefillMs, decodeMs } = seq.summary(
        { kind: reason, stopString: null, stopTokenId: null },
        nowMs,
      );
      metrics.count('vllm:request_success_total', { ...model, finished_reason: reason });
      metrics.observe('vllm:e2e_request_latency_seconds', seconds(nowMs - seq.arrivedAtMs), model);
      metrics.observe('vllm:request_queue_time_seconds', seconds(queueMs), model);
      metrics.observe('vllm:request_prefill_time_seconds', seconds(prefillMs), model);
      metrics.observe('vllm:request_decode_time_seconds', seconds(decodeMs), model);
      metrics.observe('vllm:request_inference_time_seconds', seconds(prefillMs + decodeMs), model);
      metrics.observe('vllm:request_prompt_tokens', seq.numPrompt, model);
      metrics.observe('vllm:request_generation_tokens', seq.numGenerated, model);
      const later = seq.numGenerated - 1;
      if (later > 0) metrics.observe('vllm:request_time_per_output_token_seconds', seconds(decodeMs / later), model);
    },
    failed: (_seq, error) => metrics.count('guildhall_errors_total', { code: error.code }),
  };
}

/** Rows of each worker since start, and the dispatch's events as metrics. */
export class DispatchMetrics implements ExpertObserver {
  readonly rowsByWorker = new Map<string, number>();
  readonly #metrics: Metrics;
  /** Workers that are gone, and whose series go when nothing of them can come any more. */
  readonly #gone = new Set<string>();

  constructor(metrics: Metrics) {
    this.#metrics = metrics;
  }

  message(worker: string, status: string): void {
    this.#metrics.count('guildhall_dispatch_messages_total', { worker, status });
  }

  bytes(worker: string, direction: 'sent' | 'received', bytes: number): void {
    this.#metrics.count('guildhall_dispatch_bytes_total', { worker, direction }, bytes);
  }

  retry(reason: string): void {
    this.#metrics.count('guildhall_dispatch_retries_total', { reason });
  }

  rows(worker: string, rows: number): void {
    this.rowsByWorker.set(worker, (this.rowsByWorker.get(worker) ?? 0) + rows);
    this.#metrics.count('guildhall_expert_rows_total', { worker }, rows);
  }

  layer(lane: 'decode' | 'prefill', ms: number): void {
    this.#metrics.observe('guildhall_dispatch_seconds', ms / 1000, { lane });
  }

  hedge(outcome: 'sent' | 'denied' | 'won' | 'lost'): void {
    this.#metrics.count('guildhall_dispatch_hedges_total', { outcome });
  }

  late(worker: string): void {
    this.#metrics.count('guildhall_dispatch_late_replies_total', { worker });
  }

  spread(rows: number, workers: number): void {
    this.#metrics.count('guildhall_dispatch_rows_total', {}, rows);
    this.#metrics.count('guildhall_dispatch_row_workers_total', {}, workers);
  }

  failover(ms: number): void {
    this.#metrics.observe('guildhall_dispatch_failover_seconds', ms / 1000);
  }

  breaker(worker: string, open: boolean): void {
    this.#metrics.gauge('guildhall_worker_breaker_open', open ? 1 : 0, { worker });
  }

  gone(worker: string): void {
    this.#gone.add(worker);
  }

  /** Forgets the series of workers that were gone when it was called the last time; names of pods never come back. */
  sweep(): void {
    for (const worker of this.#gone) void this.#metrics.forget('worker', worker);
    this.#gone.clear();
  }

  experts(change: 'lost' | 'recovered', count: number): void {
    this.#metrics.count(
      change === 'lost' ? 'guildhall_experts_lost_total' : 'guildhall_experts_recovered_total',
      {},
      count,
    );
  }

  fallback(held: number, loaded: number, rows: number): void {
    this.#metrics.gauge('guildhall_fallback_experts', held);
    this.#metrics.count('guildhall_fallback_loads_total', {}, loaded);
    this.#metrics.count('guildhall_fallback_rows_total', {}, rows);
  }
}

/** What the gauges show. */
export interface GaugeSources {
  scheduler: Scheduler;
  pool: PagePool;
  slots: StateSlots;
  coverage: number;
  epoch: number;
  streams: Readonly<Record<'decode' | 'prefill', number>>;
  nativeBytes: Readonly<Record<string, number>>;
}

/** The cache as vLLM describes its own: autoscalers and endpoint pickers read the size and number of blocks there. */
export function setCacheInfo(
  metrics: Metrics,
  config: Pick<RouterConfig, 'prefixCache' | 'kvDtype'>,
  { pools, servedModels }: Pick<LoadedModel, 'pools' | 'servedModels'>,
): void {
  metrics.gauge('vllm:cache_config_info', 1, {
    model_name: servedModels[0] ?? '',
    block_size: PAGE_TOKENS,
    num_gpu_blocks: pools.kv.numPages,
    enable_prefix_caching: config.prefixCache === 'off' ? 'False' : 'True',
    cache_dtype: config.kvDtype,
  });
}

export function setGauges(metrics: Metrics, modelName: string, from: GaugeSources): void {
  const model = { model_name: modelName };
  const { scheduler, pool, slots } = from;
  metrics.gauge('vllm:num_requests_running', scheduler.numActive, model);
  metrics.gauge('vllm:num_requests_waiting', scheduler.numWaiting, model);
  metrics.gauge('guildhall_tenants_waiting', scheduler.queue.shares.numWaiting);
  metrics.gauge('guildhall_tenant_spread_tokens', scheduler.queue.shares.spread);
  metrics.gauge('vllm:kv_cache_usage_perc', pool.numUsed / pool.numPages, model);
  metrics.gauge('guildhall_kv_pages', pool.numFree, { state: 'free' });
  metrics.gauge('guildhall_kv_pages', pool.numUsed, { state: 'used' });
  metrics.gauge('guildhall_kv_pages', pool.numIdle, { state: 'cached' });
  metrics.gauge('guildhall_state_slots', slots.numFree, { state: 'free' });
  metrics.gauge('guildhall_state_slots', slots.numSlots - slots.numFree, { state: 'used' });
  metrics.gauge('guildhall_expert_coverage', from.coverage);
  metrics.gauge('guildhall_epoch', from.epoch);
  for (const [lane, open] of Object.entries(from.streams)) metrics.gauge('guildhall_expert_streams', open, { lane });
  for (const [kind, bytes] of Object.entries(from.nativeBytes))
    metrics.gauge('guildhall_native_bytes', bytes, { kind });
}
