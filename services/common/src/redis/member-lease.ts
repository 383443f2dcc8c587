import type { Redis } from 'ioredis';
import type { Clock } from '../clock.ts';
import { errorMessage, fail, isGuildhallError } from '../errors.ts';
import type { Logger } from '../logger.ts';
import { redisRefusal } from './client.ts';
import type { RedisKeys } from './keys.ts';
import { Poller } from './poller.ts';
import { runScript } from './scripts.ts';

/** Default length of a lease and the interval of its renewals. */
export const LEASE_MS = 6000;
export const RENEW_MS = 2000;

/** What the renewal returns when the entry was gone. */
const TAKEN_AGAIN = 2;

export interface MemberLeaseOptions {
  redis: Redis;
  keys: RedisKeys;
  clock: Clock;
  logger: Logger;
  kind: string;
  id: string;
  incarnation: bigint;
  /** Bytes that others read; asked for at every renewal. */
  value: () => Uint8Array;
  leaseMs?: number;
  renewMs?: number;
  /** Another incarnation has taken the id: this process must stop acting as it. */
  onLost: (err: Error) => void;
  /** Redis ended the lease before its time, and it was taken again. */
  onEarlyEnd?: () => void;
  /** Told after each renewal whether Redis answered. */
  onRenew?: (ok: boolean) => void;
}

/**
 * A member's entry, kept alive by renewals. Redis may go away and come back empty: the next renewal puts the entry
 * back. An incarnation that was replaced (it slept through its lease) learns it from the next renewal.
 */
export class MemberLease {
  readonly #options: MemberLeaseOptions;
  readonly #leaseMs: number;
  readonly #renewMs: number;
  readonly #poller: Poller;
  #held = false;
  #up = true;
  /** When Redis last had the lease. */
  #renewedMs = Number.NEGATIVE_INFINITY;

  constructor(options: MemberLeaseOptions) {
    this.#options = options;
    this.#leaseMs = options.leaseMs ?? LEASE_MS;
    this.#renewMs = options.renewMs ?? RENEW_MS;
    this.#poller = new Poller(options.clock, this.#renewMs, () => this.#renew());
  }

  /** `kind/id`. */
  get tag(): string {
    return `${this.#options.kind}/${this.#options.id}`;
  }

  /** True from join to leave or loss. */
  get held(): boolean {
    return this.#held;
  }

  /**
   * Takes the lease, waiting while Redis is away. A lease that a dead process left under the same id is waited
   * for; one that is being renewed throws `id_in_use`. Throws `redis_denied` where Redis refuses this process: waiting would not
   * help. Throws `cancelled` when the signal aborts.
   */
  async join(signal?: AbortSignal): Promise<void> {
    const { clock, kind, id, logger } = this.#options;
    /** When the other's lease ends unless it is renewed. */
    let endsMs: number | null = null;
    let warned = false;
    for (;;) {
      if (signal?.aborted) throw fail('cancelled', 'joining was cancelled');
      const answer = await this.#tryJoin();
      const nowMs = clock.monotonicMs();
      if (answer === 'joined') break;
      if (answer === 'away') {
        if (!warned) logger.warn('Redis is away; joining waits for it');
        warned = true;
        endsMs = null;
      } else if (endsMs === null) {
        logger.info({ leftMs: answer }, `${kind}/${id} has a live lease; waiting for it to end`);
        endsMs = nowMs + answer;
      } else if (nowMs + answer > endsMs + this.#renewMs / 4) {
        throw fail('id_in_use', `another live process is ${kind}/${id}`, { field: 'id' });
      }
      await clock.sleep(Math.min(250, this.#renewMs), signal);
    }
    this.#held = true;
    await this.#poller.start();
  }

  async #tryJoin(): Promise<'joined' | 'away' | number> {
    const { redis, keys, kind, id, incarnation, value } = this.#options;
    try {
      const args = [`${kind}/${id}`, String(incarnation), this.#leaseMs, value(), keys.events];
      const [joined, leftMs] = (await runScript(redis, 'member-join', [keys.member(kind, id), keys.members], args)) as [
        number,
        number,
      ];
      return joined === 1 ? 'joined' : leftMs;
    } catch (err) {
      const refusal = redisRefusal(redis);
      if (refusal !== null) throw refusal;
      if (isGuildhallError(err) && err.code === 'redis_unavailable') return 'away';
      throw err;
    }
  }

  /** Renews now, because the value has changed. */
  touch(): void {
    if (this.#held) this.#poller.poke();
  }

  async #renew(): Promise<void> {
    if (!this.#held) return;
    const { redis, keys, kind, id, incarnation, value, logger, onRenew } = this.#options;
    try {
      const args = [`${kind}/${id}`, String(incarnation), this.#leaseMs, value(), keys.events];
      const result = Number(await runScript(redis, 'member-renew', [keys.member(kind, id), keys.members], args));
      if (result === -1) return this.#lose();
      const nowMs = this.#options.clock.monotonicMs();
      if (result === TAKEN_AGAIN && nowMs - this.#renewedMs < this.#leaseMs) this.#options.onEarlyEnd?.();
      this.#renewedMs = nowMs;
      if (!this.#up) logger.info('lease renewed after an outage of Redis');
      this.#up = true;
    } catch (err) {
      if (this.#up) logger.warn({ reason: errorMessage(err) }, 'lease not renewed');
      this.#up = false;
    }
    onRenew?.(this.#up);
  }

  #lose(): void {
    this.#held = false;
    const { kind, id, onLost } = this.#options;
    onLost(fail('id_in_use', `another process has become ${kind}/${id}`, { field: 'id' }));
  }

  /** Gives the lease up; with Redis away it ends by itself. */
  async leave(): Promise<void> {
    await this.#poller.stop();
    if (!this.#held) return;
    this.#held = false;
    const { redis, keys, kind, id, incarnation, logger } = this.#options;
    try {
      await runScript(
        redis,
        'member-leave',
        [keys.member(kind, id), keys.members],
        [`${kind}/${id}`, String(incarnation), keys.events],
      );
    } catch (err) {
      logger.warn({ reason: errorMessage(err) }, 'could not leave; the lease will expire');
    }
  }
}
