import { type Accounts, type Clock, HOUR_MS, type Logger, type Metrics, newIncarnation } from '@guildhall/common';
import type { ApiKeys } from '../auth.ts';
import type { Caller } from '../caller.ts';
import type { GatewayConfig } from '../config.ts';
import { Admission } from './admission.ts';
import { Authenticator } from './authenticator.ts';
import { FailedAttempts } from './failed-attempts.ts';
import { KeyCache } from './key-cache.ts';
import { QuotaGuard } from './quota-guard.ts';
import { TenantLabels } from './tenant-labels.ts';
import { UsageMeter } from './usage-meter.ts';

export interface LimitsOptions {
  config: GatewayConfig;
  keys: ApiKeys;
  accounts: Pick<Accounts, 'keys' | 'quotas' | 'usage' | 'onKey'>;
  clock: Clock;
  logger: Logger;
  metrics: Metrics;
}

/** Keys, quotas and usage of a gateway: who may ask, how much, and what it came to. */
export class Limits {
  readonly auth: Authenticator;
  readonly quotas: QuotaGuard;
  readonly meter: UsageMeter;
  readonly accounts: LimitsOptions['accounts'];
  readonly #cache: KeyCache;
  readonly #quotaOutputTokens: number;
  #unsubscribe: (() => void) | null = null;

  constructor({ config, keys, accounts, clock, logger, metrics }: LimitsOptions) {
    const shared = { clock, logger, metrics };
    const source = newIncarnation().toString(36);
    this.accounts = accounts;
    this.#quotaOutputTokens = config.quotaOutputTokens;
    this.#cache = new KeyCache({ store: accounts.keys, clock, logger, maxAgeMs: config.keyCacheMs });
    this.auth = new Authenticator({
      keys,
      cache: this.#cache,
      attempts: new FailedAttempts(clock),
      clusterToken: config.clusterToken,
      requireKey: config.requireKey,
      clock,
      metrics,
    });
    this.quotas = new QuotaGuard({
      ...shared,
      store: accounts.quotas,
      source,
      failure: config.quotaFailure,
      tenantQuota: {
        requestsPerMinute: config.tenantRequestsPerMinute,
        tokensPerMinute: config.tenantTokensPerMinute,
        concurrency: config.tenantConcurrency,
      },
    });
    this.meter = new UsageMeter({
      ...shared,
      store: accounts.usage,
      source,
      keepMs: config.usageDays * 24 * HOUR_MS,
      labels: new TenantLabels(config.metricTenants),
    });
  }

  /** Listens to changes of keys and begins to report usage. */
  async start(): Promise<void> {
    this.#unsubscribe = this.accounts.onKey((id) => this.#cache.changed(id));
    await this.meter.start();
  }

  /** Tells what was used and not told yet. */
  async stop(): Promise<void> {
    this.#unsubscribe?.();
    this.quotas.close();
    await this.meter.stop();
  }

  /** The account of a request, which has taken nothing yet. */
  admission(caller: Caller): Admission {
    const { quotas, meter: usage } = this;
    return new Admission({ quotas, usage, quotaOutputTokens: this.#quotaOutputTokens }, caller);
  }
}
