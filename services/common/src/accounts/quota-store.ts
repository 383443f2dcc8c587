import type { Redis } from 'ioredis';
import type { AccountKeys } from '../redis/keys.ts';
import { runScript } from '../redis/scripts.ts';
import type { Quota } from './key-record.ts';

/** Somebody with a quota: a key or a tenant. */
export interface QuotaSubject {
  /** Such as `key:abc`. */
  name: string;
  quota: Quota;
}

/** Of a request: its key and its tenant. */
export type SubjectPair = readonly [QuotaSubject, QuotaSubject];

/** What a request wants of its quotas. */
export interface QuotaAsk {
  requests: number;
  tokens: number;
  /** A place among the running requests under this name; null for none. */
  lease: string | null;
}

/** State of one kind of quota after a request. */
export interface QuotaState {
  /** A minute's worth; 0 where there is no such quota. */
  limit: number;
  left: number;
  /** Milliseconds until all of it is there again. */
  resetMs: number;
}

/** Why a request was refused. */
export type QuotaRefusal = 'requests' | 'tokens' | 'concurrency' | 'too_large';

export interface QuotaAnswer {
  /** Null where the request may go on. */
  refused: QuotaRefusal | null;
  /** The subject whose quota it is; null where it may go on. */
  subject: QuotaSubject | null;
  /** Milliseconds until it would not be refused, as far as can be told; 0 where that cannot. */
  waitMs: number;
  requests: QuotaState;
  tokens: QuotaState;
}

const REFUSALS: readonly (QuotaRefusal | null)[] = [null, 'requests', 'tokens', 'concurrency', 'too_large'];

/**
 * Token buckets and running requests of keys and tenants. Every decision is one script under Redis's own clock, so that any
 * number of gateways share one quota exactly.
 */
export class QuotaStore {
  readonly #redis: Redis;
  readonly #keys: AccountKeys;

  constructor(redis: Redis, keys: AccountKeys) {
    this.#redis = redis;
    this.#keys = keys;
  }

  /** Takes all that is asked for from the quotas of both subjects, or nothing. Throws `redis_unavailable`. */
  async take(subjects: SubjectPair, ask: QuotaAsk, leaseMs: number): Promise<QuotaAnswer> {
    const quotas = subjects.flatMap(({ quota }) => [
      quota.requestsPerMinute ?? 0,
      quota.tokensPerMinute ?? 0,
      quota.concurrency ?? 0,
    ]);
    const args = [ask.requests, ask.tokens, ask.lease ?? '', leaseMs, ...quotas];
    const answer = (await runScript(this.#redis, 'quota-take', this.#names(subjects), args)) as number[];
    const [what = 0, whose = 0, waitMs = 0] = answer;
    const state = (from: number): QuotaState => {
      const [limit = 0, left = 0, resetMs = 0] = answer.slice(from, from + 3);
      return { limit, left, resetMs };
    };
    const refused = REFUSALS[what] ?? null;
    return { refused, subject: subjects[whose - 1] ?? null, waitMs, requests: state(3), tokens: state(6) };
  }

  /**
   * Gives back what was taken and not used, with a negative number of tokens takes what was used beyond it, and ends a lease.
   * Throws `redis_unavailable`.
   */
  async settle(subjects: SubjectPair, back: QuotaAsk): Promise<void> {
    const quotas = subjects.flatMap(({ quota }) => [quota.requestsPerMinute ?? 0, quota.tokensPerMinute ?? 0]);
    const args = [back.requests, back.tokens, back.lease ?? '', ...quotas];
    await runScript(this.#redis, 'quota-settle', this.#names(subjects), args);
  }

  /** Renews leases of a subject, also those that Redis has lost. Throws `redis_unavailable`. */
  async renew(subject: string, leases: readonly string[], leaseMs: number): Promise<void> {
    await runScript(this.#redis, 'quota-renew', [this.#keys.quotaLeases(subject)], [leaseMs, ...leases]);
  }

  #names(subjects: SubjectPair): string[] {
    return subjects.flatMap(({ name }) => [this.#keys.quota(name), this.#keys.quotaLeases(name)]);
  }
}
