import {
  type Clock,
  errorMessage,
  type GuildhallError,
  type Logger,
  type Metrics,
  type Quota,
  type QuotaAnswer,
  type QuotaAsk,
  type QuotaState,
  type QuotaStore,
  type SubjectPair,
  type Timer,
} from '@guildhall/common';
import type { Caller } from '../caller.ts';
import { type Reason, refusal } from './reasons.ts';

export interface QuotaGuardOptions {
  store: Pick<QuotaStore, 'take' | 'settle' | 'renew'>;
  /** What each tenant may use. */
  tenantQuota: Quota;
  /** Whether requests go on while Redis cannot check them. */
  failure: 'open' | 'closed';
  /** Unique name of this process's run, for its leases. */
  source: string;
  clock: Clock;
  logger: Logger;
  metrics: Metrics;
}

/** A place among the running requests that nobody renews is free again after so long. */
export const QUOTA_LEASE_MS = 15_000;
const RENEW_MS = 4000;
/** While Redis has just failed it is not asked again for so long. */
const AWAY_MS = 500;

const REASON_OF = {
  requests: 'requests_per_minute',
  tokens: 'tokens_per_minute',
  concurrency: 'concurrency',
  too_large: 'too_large',
} as const satisfies Record<string, Reason>;

const WHAT = {
  requests: 'requests per minute',
  tokens: 'tokens per minute',
  concurrency: 'requests at a time',
  too_large: 'tokens per minute',
} as const;

const NOTHING: QuotaState = { limit: 0, left: 0, resetMs: 0 };

/** Takes what requests use from the quotas of their keys and tenants, and gives back what they did not use. */
export class QuotaGuard {
  readonly #o: QuotaGuardOptions;
  /** Leases of requests that run here, by subject. */
  readonly #leases = new Map<string, Set<string>>();
  #timer: Timer | null = null;
  #awayUntilMs = -Infinity;
  #tickets = 0;

  constructor(options: QuotaGuardOptions) {
    this.#o = options;
  }

  /** A ticket for a request of this caller. It has taken nothing yet. */
  open(caller: Caller): QuotaTicket {
    this.#tickets += 1;
    const pair: SubjectPair = [
      { name: `key:${caller.keyId}`, quota: caller.quota },
      { name: `tenant:${caller.tenant}`, quota: this.#o.tenantQuota },
    ];
    // Lines of batches use what others leave: they wait by their priority.
    const free = caller.background || pair.every(({ quota }) => Object.values(quota).every((limit) => limit === null));
    return new QuotaTicket(this, free ? null : pair, `${this.#o.source}/${this.#tickets}`);
  }

  close(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }

  /** For tickets: takes from the quotas; null where that could not be checked. Throws the refusal. */
  async take(pair: SubjectPair, ask: QuotaAsk): Promise<QuotaAnswer | null> {
    const { store, failure, metrics } = this.#o;
    const answer = await this.#ask(() => store.take(pair, ask, QUOTA_LEASE_MS));
    if (answer === null) {
      metrics.count('guildhall_quota_checks_total', { outcome: `unchecked_${failure}` });
      if (failure === 'closed') throw refusal('unchecked', 'the quota cannot be checked: Redis does not answer', 1);
      return null;
    }
    metrics.count('guildhall_quota_checks_total', { outcome: answer.refused ?? 'taken' });
    return answer;
  }

  /** For tickets: settles with the quotas, as well as Redis can be reached. */
  async settle(pair: SubjectPair, back: QuotaAsk): Promise<void> {
    await this.#ask(() => this.#o.store.settle(pair, back));
  }

  /** For tickets: keeps leases of a request alive until `letGo`. */
  hold(pair: SubjectPair, lease: string): void {
    for (const { name, quota } of pair) {
      if (quota.concurrency === null) continue;
      const leases = this.#leases.get(name) ?? new Set();
      this.#leases.set(name, leases.add(lease));
    }
    if (this.#leases.size > 0) this.#timer ??= this.#o.clock.setInterval(RENEW_MS, () => void this.#renew());
  }

  letGo(pair: SubjectPair, lease: string): void {
    for (const { name } of pair) {
      const leases = this.#leases.get(name);
      leases?.delete(lease);
      if (leases?.size === 0) this.#leases.delete(name);
    }
    if (this.#leases.size > 0) return;
    this.#timer?.cancel();
    this.#timer = null;
  }

  async #renew(): Promise<void> {
    for (const [subject, leases] of this.#leases)
      await this.#ask(() => this.#o.store.renew(subject, [...leases], QUOTA_LEASE_MS));
  }

  /** Null when Redis fails, and at once while it has just done so: requests do not queue up behind its time limit. */
  async #ask<T>(call: () => Promise<T>): Promise<T | null> {
    const { clock, logger } = this.#o;
    if (clock.monotonicMs() < this.#awayUntilMs) return null;
    try {
      return await call();
    } catch (err) {
      this.#awayUntilMs = clock.monotonicMs() + AWAY_MS;
      logger.debug({ reason: errorMessage(err) }, 'quotas cannot be checked');
      return null;
    }
  }
}

/** What one request has taken from its quotas. */
export class QuotaTicket {
  readonly #guard: QuotaGuard;
  /** Null where nothing limits the request. */
  readonly #pair: SubjectPair | null;
  readonly #lease: string;
  #entered = false;
  #requests = 0;
  #tokens = 0;
  #state: Pick<QuotaAnswer, 'requests' | 'tokens'> = { requests: NOTHING, tokens: NOTHING };

  constructor(guard: QuotaGuard, pair: SubjectPair | null, lease: string) {
    this.#guard = guard;
    this.#pair = pair;
    this.#lease = lease;
  }

  /** Takes one request and a place among those that run. Throws `rate_limited`, `redis_unavailable`. */
  async enter(): Promise<void> {
    if (this.#pair === null) return;
    const answer = await this.#take(this.#pair, { requests: 1, tokens: 0, lease: this.#lease });
    this.#entered = true;
    this.#requests = answer === null ? 0 : 1;
    this.#guard.hold(this.#pair, this.#lease);
  }

  /**
   * Takes the tokens of the prompts and as many of the answers as may be taken in advance. Throws `rate_limited`,
   * `redis_unavailable`.
   */
  async reserve(promptTokens: number, outputTokens: number): Promise<void> {
    const limit = Math.min(...(this.#pair ?? []).map(({ quota }) => quota.tokensPerMinute ?? Infinity));
    if (this.#pair === null || limit === Infinity) return;
    // An estimate of the answer does not make a request too large; what it has in the end is settled.
    const tokens = Math.max(promptTokens, Math.min(promptTokens + outputTokens, limit));
    const answer = await this.#take(this.#pair, { requests: 0, tokens, lease: null });
    if (answer !== null) this.#tokens = tokens;
  }

  /** The request is over, and has used so many tokens; `refused`: it was not served, through no fault of its own. */
  async close(usedTokens: number, refused: boolean): Promise<void> {
    if (this.#pair === null || !this.#entered) return;
    this.#guard.letGo(this.#pair, this.#lease);
    const requests = refused ? this.#requests : 0;
    await this.#guard.settle(this.#pair, { requests, tokens: this.#tokens - usedTokens, lease: this.#lease });
  }

  /** Headers that tell the caller of its quotas. */
  get headers(): Record<string, string> {
    const headers: Record<string, string> = {};
    for (const what of ['requests', 'tokens'] as const) {
      const { limit, left, resetMs } = this.#state[what];
      if (limit === 0) continue;
      headers[`x-ratelimit-limit-${what}`] = String(limit);
      headers[`x-ratelimit-remaining-${what}`] = String(left);
      headers[`x-ratelimit-reset-${what}`] = duration(resetMs);
    }
    return headers;
  }

  async #take(pair: SubjectPair, ask: QuotaAsk): Promise<QuotaAnswer | null> {
    const answer = await this.#guard.take(pair, ask);
    if (answer === null) return null;
    this.#state = answer;
    if (answer.refused !== null) throw refusedBy(answer, ask);
    return answer;
  }
}

function refusedBy({ refused, subject, waitMs }: QuotaAnswer, ask: QuotaAsk): GuildhallError {
  const kind = refused ?? 'requests';
  const quota = subject?.quota;
  const limits = {
    requests: quota?.requestsPerMinute,
    tokens: quota?.tokensPerMinute,
    concurrency: quota?.concurrency,
    too_large: quota?.tokensPerMinute,
  };
  const whose = subject?.name.startsWith('tenant:') === true ? 'tenant' : 'key';
  const asked = ask.tokens > 0 ? `; this request counts as ${ask.tokens} tokens` : '';
  const message = `the quota of this ${whose} is ${limits[kind]} ${WHAT[kind]}${asked}`;
  if (kind === 'too_large') return refusal('too_large', `${message}: ask for less at once`, null);
  return refusal(REASON_OF[kind], message, Math.max(1, Math.ceil(waitMs / 1000)));
}

/** A duration as OpenAI writes it: `120ms`, `1.5s`, `2m3s`. */
export function duration(ms: number): string {
  if (ms < 1000) return `${Math.ceil(ms)}ms`;
  if (ms < 60_000) return `${Math.ceil(ms / 100) / 10}s`;
  const seconds = Math.ceil(ms / 1000);
  return `${Math.floor(seconds / 60)}m${seconds % 60}s`;
}
