import type { Logger, Metrics } from '@guildhall/common';
import type { CacheFault } from './blob.ts';
import type { BlobStoreObserver, TierUsage } from './tiers/blob-store.ts';

/** Counts every fault of the cache, and says one of each kind in the log until it has ended. */
export class FaultLog {
  readonly #metrics: Metrics;
  readonly #logger: Logger;
  readonly #said = new Set<CacheFault>();

  constructor(metrics: Metrics, logger: Logger) {
    this.#metrics = metrics;
    this.#logger = logger;
  }

  /** `detail` says what happened, for people. */
  fault(kind: CacheFault, detail: string): void {
    this.#metrics.count('guildhall_kv_faults_total', { kind });
    if (this.#said.has(kind)) return;
    this.#said.add(kind);
    this.#logger.warn(
      { fault: kind, detail },
      'fault of the KV cache: recomputing; more of this kind are only counted',
    );
  }

  /** The next fault of this kind is said again. */
  recovered(kind: CacheFault): void {
    if (this.#said.delete(kind)) this.#logger.info({ fault: kind }, 'fault of the KV cache has ended');
  }
}

/** What a store tells as metrics and log lines; `next` (the directory) hears of blobs too. */
export function storeObserver(
  metrics: Metrics,
  faults: FaultLog,
  next: Pick<BlobStoreObserver, 'added' | 'removed'> | null = null,
): BlobStoreObserver {
  return {
    added: (tier, blob) => next?.added(tier, blob),
    removed(tier, kind, name, reason) {
      metrics.count('guildhall_kv_evictions_total', { tier, reason });
      next?.removed(tier, kind, name, reason);
    },
    fault: (kind, detail) => faults.fault(kind, detail),
    recovered: (kind) => faults.recovered(kind),
    writeBack: (outcome) => metrics.count('guildhall_kv_write_backs_total', { outcome }),
  };
}

/** Gauges of the tiers. */
export function setTierGauges(metrics: Metrics, usage: readonly TierUsage[]): void {
  for (const { tier, capacityBytes, usedBytes, heldBytes, pages, states } of usage) {
    metrics.gauge('guildhall_kv_tier_capacity_bytes', capacityBytes, { tier });
    metrics.gauge('guildhall_kv_tier_bytes', usedBytes, { tier });
    metrics.gauge('guildhall_kv_tier_held_bytes', heldBytes, { tier });
    metrics.gauge('guildhall_kv_tier_blobs', pages, { tier, kind: 'page' });
    metrics.gauge('guildhall_kv_tier_blobs', states, { tier, kind: 'state' });
  }
}
