import {
  addUsage,
  type Clock,
  errorMessage,
  type Logger,
  type Metrics,
  noUsage,
  Poller,
  type UsageCounts,
  type UsageStore,
  type UsageSubject,
} from '@guildhall/common';
import type { TenantLabels } from './tenant-labels.ts';

export interface UsageMeterOptions {
  store: Pick<UsageStore, 'add'>;
  /** Unique name of this process's run. */
  source: string;
  /** For how long an hour is kept, ms. */
  keepMs: number;
  labels: TenantLabels;
  clock: Clock;
  logger: Logger;
  metrics: Metrics;
}

/** What is used is told to Redis as often; a gateway that is killed loses no more than it did since. */
export const REPORT_MS = 1000;
/** Keys whose use is remembered while Redis is away. What others use then is lost, and counted. */
const MAX_SUBJECTS = 10_000;

/** The use of one request, while it runs. */
export interface UsageEntry {
  /** The request is over. */
  close(): void;
}

interface Open {
  subject: UsageSubject;
  /** What it has used so far; never less than before. */
  read: () => UsageCounts;
  told: UsageCounts;
}

interface Report {
  number: number;
  rows: (UsageSubject & UsageCounts)[];
}

/**
 * Adds up what requests use, also while they run, and tells Redis every second. While Redis is away it is kept here and told
 * later; a report whose answer was lost is sent again and counts once.
 */
export class UsageMeter {
  readonly #o: UsageMeterOptions;
  readonly #open = new Set<Open>();
  #pending = new Map<string, UsageSubject & UsageCounts>();
  /** A report that Redis has not confirmed. */
  #unconfirmed: Report | null = null;
  #number = 0;
  readonly #poller: Poller;

  constructor(options: UsageMeterOptions) {
    this.#o = options;
    this.#poller = new Poller(options.clock, REPORT_MS, () => this.#report());
  }

  async start(): Promise<void> {
    await this.#poller.start();
  }

  /** Tells what is left to tell, and stops. */
  async stop(): Promise<void> {
    await this.#poller.stop();
    for (const open of this.#open) this.#collect(open);
    // A report that waited, and what came after it.
    await this.#report();
    if (this.#pending.size > 0) await this.#report();
  }

  /** Tells what has been used until now. Resolves when Redis has it, or was found to be away. */
  async flush(): Promise<void> {
    await this.#poller.run();
  }

  /** Counts a request, whose further use `read` tells at any time. */
  open(subject: UsageSubject, read: () => UsageCounts): UsageEntry {
    const open: Open = { subject, read, told: noUsage() };
    this.#open.add(open);
    return {
      close: () => {
        if (!this.#open.delete(open)) return;
        this.#collect(open);
      },
    };
  }

  #collect(open: Open): void {
    const counts = open.read();
    const by = noUsage();
    let some = false;
    for (const name of Object.keys(by) as (keyof UsageCounts)[]) {
      by[name] = Math.max(0, Math.round(counts[name]) - open.told[name]);
      open.told[name] += by[name];
      some ||= by[name] > 0;
    }
    if (!some) return;
    this.#tellMetrics(open.subject.tenant, by);
    const { tenant, keyId } = open.subject;
    const key = `${tenant}/${keyId}`;
    const known = this.#pending.get(key);
    if (known !== undefined) addUsage(known, by);
    else if (this.#pending.size < MAX_SUBJECTS) this.#pending.set(key, { tenant, keyId, ...by });
    else this.#o.metrics.count('guildhall_usage_lost_total', {}, by.requests);
  }

  #tellMetrics(tenant: string, by: UsageCounts): void {
    const { labels, metrics } = this.#o;
    const label = labels.of(tenant);
    const count = (kind: string, value: number): void => {
      if (value > 0) metrics.count('guildhall_tenant_tokens_total', { tenant: label, kind }, value);
    };
    count('input', by.inputTokens);
    count('cached', by.cachedTokens);
    count('output', by.outputTokens);
    count('reasoning', by.reasoningTokens);
    if (by.requests > 0) metrics.count('guildhall_tenant_requests_total', { tenant: label }, by.requests);
    if (by.expertMicros > 0)
      metrics.count('guildhall_tenant_expert_seconds_total', { tenant: label }, by.expertMicros / 1e6);
  }

  async #report(): Promise<void> {
    const { store, source, keepMs, logger } = this.#o;
    for (const open of this.#open) this.#collect(open);
    if (this.#unconfirmed === null && this.#pending.size > 0) {
      this.#number += 1;
      this.#unconfirmed = { number: this.#number, rows: [...this.#pending.values()] };
      this.#pending = new Map();
    }
    const report = this.#unconfirmed;
    if (report === null) return;
    try {
      await store.add(source, report.number, report.rows, keepMs);
      this.#unconfirmed = null;
    } catch (err) {
      logger.debug({ reason: errorMessage(err) }, 'usage is told later');
    }
  }
}
