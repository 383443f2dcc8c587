import { timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import {
  apiKeyHash,
  apiKeyId,
  type Clock,
  fail,
  type GuildhallError,
  isGuildhallError,
  type Metrics,
  sameSecret,
  type StoredKey,
} from '@guildhall/common';
import type { ApiKeys } from '../auth.ts';
import { type Caller, plainCaller, TENANT_HEADER } from '../caller.ts';
import type { FailedAttempts } from './failed-attempts.ts';
import type { KeyCache } from './key-cache.ts';
import { refusal } from './reasons.ts';

export interface AuthenticatorOptions {
  /** Keys of options and files. */
  keys: ApiKeys;
  /** Keys of Redis. */
  cache: Pick<KeyCache, 'peek' | 'has' | 'resolve'>;
  attempts: FailedAttempts;
  clusterToken: string | null;
  /** Refuse callers without a key also where options and files have none. */
  requireKey: boolean;
  clock: Clock;
  metrics: Metrics;
}

const TENANT = /^[A-Za-z0-9_.-]{0,63}$/;
/** Compared with where there is no hash, so that an unknown id takes the time of a known one. */
const NO_HASH = Buffer.alloc(32);

/** Tells who sends a request, by its headers. */
export class Authenticator {
  readonly #o: AuthenticatorOptions;

  constructor(options: AuthenticatorOptions) {
    this.#o = options;
  }

  /** True where callers need a key. */
  get required(): boolean {
    return this.#o.requireKey || this.#o.keys.some;
  }

  /**
   * The caller by an API key (`Authorization: Bearer …` or `x-api-key`), or by the cluster token with the name of a tenant. Throws
   * `unauthorized`; `rate_limited` when too many wrong keys came from `address`; `redis_unavailable` for a key that cannot be checked.
   */
  async authenticate(headers: IncomingHttpHeaders, address: string): Promise<Caller> {
    if (headers[TENANT_HEADER] !== undefined) return this.#clusterCaller(headers);
    const key = givenKey(headers);
    if (key === null) {
      if (!this.required) return plainCaller('', '');
      throw this.#refused('missing', 'an API key is required: send `Authorization: Bearer <key>`');
    }
    const owner = this.#o.keys.find(key);
    if (owner !== null) return plainCaller(owner.tenant, owner.keyId);
    const id = apiKeyId(key);
    if (id !== null) return this.#stored(id, key, address);
    // Clients send some key also where none is needed.
    if (!this.required) return plainCaller('', '');
    return this.#wrong(address);
  }

  #clusterCaller(headers: IncomingHttpHeaders): Caller {
    const tenant = headers[TENANT_HEADER];
    const { clusterToken } = this.#o;
    if (clusterToken === null || !sameSecret(headers.authorization ?? '', `Bearer ${clusterToken}`))
      throw this.#refused('cluster', `${TENANT_HEADER} is for processes of the cluster only`);
    if (typeof tenant !== 'string' || !TENANT.test(tenant))
      throw fail('invalid_value', `${TENANT_HEADER} is no name of a tenant`, { field: TENANT_HEADER });
    return plainCaller(tenant, 'batch', true);
  }

  /** The caller by a key of Redis. Who is known is never held up by what others have tried from the same address. */
  async #stored(id: string, key: string, address: string): Promise<Caller> {
    const { cache, attempts } = this.#o;
    const hash = apiKeyHash(key);
    const known = cache.has(id) || cache.peek(id) === null;
    if (!known && !attempts.take(address)) throw this.#throttled(address);
    let stored: StoredKey | null;
    try {
      stored = await cache.resolve(id);
    } catch (err) {
      if (!known) attempts.giveBack(address);
      throw this.#uncheckable(err);
    }
    const same = timingSafeEqual(hash, stored?.hash ?? NO_HASH);
    if (stored === null || stored.hash === null || !same) return this.#wrong(address, known);
    if (!known) attempts.giveBack(address);
    return this.#valid(stored);
  }

  #valid({ record }: StoredKey): Caller {
    const { expiresAtMs, tenant, id, priority, priorityCap, models } = record;
    const { requestsPerMinute, tokensPerMinute, concurrency } = record;
    if (expiresAtMs !== null && this.#o.clock.nowMs() >= expiresAtMs)
      throw this.#refused('expired', 'the API key has expired: ask for a new one');
    const quota = { requestsPerMinute, tokensPerMinute, concurrency };
    return { tenant, background: false, keyId: id, priority, priorityCap, models, quota };
  }

  /** `countIt`: the attempt was not taken from the address before. */
  #wrong(address: string, countIt = true): never {
    if (countIt && !this.#o.attempts.take(address)) throw this.#throttled(address);
    throw this.#refused('invalid', 'the API key is not valid');
  }

  #refused(outcome: string, message: string): GuildhallError {
    this.#o.metrics.count('guildhall_key_refusals_total', { outcome });
    return fail('unauthorized', message);
  }

  #throttled(address: string): GuildhallError {
    this.#o.metrics.count('guildhall_key_refusals_total', { outcome: 'throttled' });
    const waitS = this.#o.attempts.waitS(address);
    return refusal(
      'failed_attempts',
      'too many wrong API keys came from this address; wait before the next one',
      waitS,
    );
  }

  #uncheckable(err: unknown): unknown {
    if (!isGuildhallError(err)) return err;
    this.#o.metrics.count('guildhall_key_refusals_total', { outcome: 'unchecked' });
    return refusal('unchecked', 'the API key cannot be checked: Redis does not answer', 1);
  }
}

/** The key in a request's headers, or null. */
function givenKey(headers: IncomingHttpHeaders): string | null {
  const bearer = /^Bearer +(\S+)$/i.exec(headers.authorization ?? '')?.[1];
  if (bearer !== undefined) return bearer;
  const other = headers['x-api-key'];
  return typeof other === 'string' && /^\S+$/.test(other) ? other : null;
}
