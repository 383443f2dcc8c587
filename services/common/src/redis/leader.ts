import type { Redis } from 'ioredis';
import type { Clock, Timer } from '../clock.ts';
import { errorMessage } from '../errors.ts';
import type { Logger } from '../logger.ts';
import type { RedisKeys } from './keys.ts';
import { LEASE_MS, RENEW_MS } from './member-lease.ts';
import { Poller } from './poller.ts';
import { runScript } from './scripts.ts';

/** Proof of leadership that writes carry. */
export interface LeaderFence {
  owner: string;
  /** Grows with every change of leader. */
  fence: number;
}

export interface LeaderLockOptions {
  redis: Redis;
  keys: RedisKeys;
  clock: Clock;
  logger: Logger;
  /** Unique to this process's start. */
  owner: string;
  leaseMs?: number;
  renewMs?: number;
  onChange?: (leading: boolean) => void;
}

/**
 * One of several processes leads. A leader that cannot renew gives up before its lease in Redis ends; what it
 * writes late is refused by the fence.
 */
export class LeaderLock {
  readonly #options: LeaderLockOptions;
  readonly #leaseMs: number;
  readonly #poller: Poller;
  #held: LeaderFence | null = null;
  #expiry: Timer | null = null;

  constructor(options: LeaderLockOptions) {
    this.#options = options;
    this.#leaseMs = options.leaseMs ?? LEASE_MS;
    this.#poller = new Poller(options.clock, options.renewMs ?? RENEW_MS, () => this.#acquire());
  }

  /** The fence while this process leads, else null. */
  get fence(): LeaderFence | null {
    return this.#held;
  }

  /** Resolves after the first attempt. */
  start(): Promise<void> {
    return this.#poller.start();
  }

  /** Tries again now, for instance after a write was refused. */
  check(): void {
    this.#poller.poke();
  }

  async #acquire(): Promise<void> {
    const { redis, keys, owner, clock, logger } = this.#options;
    const askedMs = clock.monotonicMs();
    try {
      const fence = Number(
        await runScript(redis, 'leader-acquire', [keys.leader, keys.leaderFence], [owner, this.#leaseMs]),
      );
      if (fence === 0) return this.#set(null);
      this.#expiry?.cancel();
      // Counted from before the request, so that this process gives up first.
      const leftMs = this.#leaseMs - (clock.monotonicMs() - askedMs);
      this.#expiry = clock.setTimer(leftMs, () => this.#set(null));
      this.#set({ owner, fence });
    } catch (err) {
      logger.debug({ reason: errorMessage(err) }, 'leader lock not reached');
    }
  }

  #set(next: LeaderFence | null): void {
    const before = this.#held;
    if (next === null) this.#expiry?.cancel();
    this.#held = next;
    if (before?.fence === next?.fence) return;
    this.#options.logger.info({ fence: next?.fence ?? null }, next === null ? 'leadership lost' : 'leading');
    this.#options.onChange?.(next !== null);
  }

  /** Gives the lock up, so that another can take it at once. */
  async stop(): Promise<void> {
    await this.#poller.stop();
    this.#expiry?.cancel();
    if (this.#held === null) return;
    this.#held = null;
    const { redis, keys, owner, logger } = this.#options;
    try {
      await runScript(redis, 'leader-release', [keys.leader], [owner]);
    } catch (err) {
      logger.warn({ reason: errorMessage(err) }, 'leader lock not released; it will expire');
    }
  }
}
