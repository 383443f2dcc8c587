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

/** How one of several processes comes to lead; what it writes under its fence is refused once another leads. */
export interface LeaderElection {
  /** The fence while this process leads, else null. */
  readonly fence: LeaderFence | null;
  /** Stands for election; resolves after the first attempt. */
  start(): Promise<void>;
  /** Gives the lead up, so that another can take it at once. */
  stop(): Promise<void>;
  /** Tries again now, for instance after a write was refused. */
  check(): void;
  /** Calls `listener` when this process begins or ceases to lead, until the returned function is called. */
  onChange(listener: (leading: boolean) => void): () => void;
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
}

/**
 * Election by a lock in Redis. A leader that cannot renew gives up before its lease in Redis ends; what it
 * writes late is refused by the fence.
 */
export class LeaderLock implements LeaderElection {
  readonly #options: LeaderLockOptions;
  readonly #leaseMs: number;
  readonly #poller: Poller;
  readonly #listeners = new Set<(leading: boolean) => void>();
  #held: LeaderFence | null = null;
  /** When the lease ends, on the monotonic clock. */
  #endsMs = 0;
  #expiry: Timer | null = null;

  constructor(options: LeaderLockOptions) {
    this.#options = options;
    this.#leaseMs = options.leaseMs ?? LEASE_MS;
    this.#poller = new Poller(options.clock, options.renewMs ?? RENEW_MS, () => this.#acquire());
  }

  /** A process that slept through its lease learns it here, before the timer has fired. */
  get fence(): LeaderFence | null {
    return this.#options.clock.monotonicMs() < this.#endsMs ? this.#held : null;
  }

  start(): Promise<void> {
    return this.#poller.start();
  }

  check(): void {
    this.#poller.poke();
  }

  onChange(listener: (leading: boolean) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
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
      this.#endsMs = askedMs + this.#leaseMs;
      this.#expiry = clock.setTimer(this.#endsMs - clock.monotonicMs(), () => this.#set(null));
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
    for (const listener of this.#listeners) listener(next !== null);
  }

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
