import type { Redis } from 'ioredis';
import type { Clock } from '../clock.ts';
import { errorMessage, fail } from '../errors.ts';
import type { Logger } from '../logger.ts';
import type { ClusterEvents } from './events.ts';
import type { RedisKeys } from './keys.ts';
import type { LeaderFence } from './leader.ts';
import { Poller } from './poller.ts';
import { redisError, runScript } from './scripts.ts';

/** For how long a superseded placement can still be read. */
const KEEP_OLD_MS = 3_600_000;

export interface StoredPlacement {
  epoch: number;
  bytes: Buffer;
}

/** Why a placement was not published. */
export type PublishResult = 'published' | 'not_leader' | 'conflict' | 'number_taken';

const RESULTS: Record<number, PublishResult> = {
  1: 'published',
  [-1]: 'not_leader',
  [-2]: 'conflict',
  [-3]: 'number_taken',
};

/** The numbered, immutable placements. */
export class PlacementStore {
  readonly #redis: Redis;
  readonly #keys: RedisKeys;

  constructor(redis: Redis, keys: RedisKeys) {
    this.#redis = redis;
    this.#keys = keys;
  }

  /**
   * Publishes `bytes` as epoch `next` if the current epoch is `expectedCurrent` (0 for none) and the fence is that
   * of the leader. Throws `redis_unavailable`.
   */
  async publish(expectedCurrent: number, next: number, bytes: Uint8Array, leader: LeaderFence): Promise<PublishResult> {
    const keys = this.#keys;
    const result = await runScript(
      this.#redis,
      'placement-publish',
      [keys.epochCurrent, keys.placement(next), keys.leader, keys.placement(expectedCurrent)],
      [expectedCurrent, next, bytes, leader.owner, leader.fence, KEEP_OLD_MS, keys.events],
    );
    const known = RESULTS[Number(result)];
    if (known === undefined) throw fail('internal', `placement-publish returned ${String(result)}`);
    return known;
  }

  /** Number of the current epoch, 0 for none. Throws `redis_unavailable`. */
  async currentEpoch(): Promise<number> {
    try {
      return Number((await this.#redis.get(this.#keys.epochCurrent)) ?? 0);
    } catch (err) {
      throw redisError(err);
    }
  }

  /** The current placement, or null when there is none. Throws `redis_unavailable`. */
  async current(): Promise<StoredPlacement | null> {
    const epoch = await this.currentEpoch();
    return epoch === 0 ? null : await this.read(epoch);
  }

  /** A placement by its number, or null when there is none (any more). Throws `redis_unavailable`. */
  async read(epoch: number): Promise<StoredPlacement | null> {
    try {
      const bytes = await this.#redis.getBuffer(this.#keys.placement(epoch));
      return bytes === null ? null : { epoch, bytes };
    } catch (err) {
      throw redisError(err);
    }
  }
}

export interface PlacementViewOptions {
  store: PlacementStore;
  events: ClusterEvents;
  clock: Clock;
  logger: Logger;
  pollMs?: number;
}

/** The newest placement seen. It never goes back: a Redis that lost its data leaves the last known one in force. */
export class PlacementView {
  readonly #options: PlacementViewOptions;
  readonly #poller: Poller;
  readonly #listeners = new Set<(placement: StoredPlacement) => void>();
  #current: StoredPlacement | null = null;
  #stale = true;
  #unsubscribe: (() => void) | null = null;

  constructor(options: PlacementViewOptions) {
    this.#options = options;
    this.#poller = new Poller(options.clock, options.pollMs ?? 1000, () => this.#poll());
  }

  current(): StoredPlacement | null {
    return this.#current;
  }

  /** True before the first answer and while Redis is away. */
  get stale(): boolean {
    return this.#stale;
  }

  /** Calls `listener` with each newer placement until the returned function is called. */
  onChange(listener: (placement: StoredPlacement) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Resolves after the first attempt to read. */
  async start(): Promise<void> {
    this.#unsubscribe = this.#options.events.on((event) => {
      if (event.type === 'epoch') this.#poller.poke();
    });
    await this.#poller.start();
  }

  async stop(): Promise<void> {
    this.#unsubscribe?.();
    await this.#poller.stop();
    this.#listeners.clear();
  }

  async #poll(): Promise<void> {
    const { store, logger } = this.#options;
    try {
      const epoch = await store.currentEpoch();
      if (epoch > (this.#current?.epoch ?? 0)) {
        const placement = await store.read(epoch);
        if (placement !== null) this.#take(placement);
      }
      this.#stale = false;
    } catch (err) {
      if (!this.#stale) logger.warn({ reason: errorMessage(err) }, 'the placement may be stale');
      this.#stale = true;
    }
  }

  #take(placement: StoredPlacement): void {
    this.#current = placement;
    for (const listener of this.#listeners) listener(placement);
  }
}
