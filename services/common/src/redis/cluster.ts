import type { Redis } from 'ioredis';
import type { Clock } from '../clock.ts';
import type { Logger } from '../logger.ts';
import { connectRedis, firstAttempt, type RedisAccess } from './client.ts';
import { DrainStore } from './drains.ts';
import { EventLog } from './event-log.ts';
import { ClusterEvents } from './events.ts';
import { type RedisKeys, redisKeys } from './keys.ts';
import { LoadStore } from './loads.ts';
import { MemberLease, type MemberLeaseOptions } from './member-lease.ts';
import { MemberView } from './member-view.ts';
import { PageDirectory } from './page-directory.ts';
import { PlacementStore, PlacementView } from './placements.ts';
import { QuarantineStore } from './quarantine.ts';
import { ResponseStore } from './responses.ts';

export interface ClusterOptions {
  /** URL of Redis, of its sentinels, or of a Redis Cluster. */
  redis: string;
  cluster: string;
  /** Who this process is to Redis. */
  access?: RedisAccess | null;
  clock: Clock;
  logger: Logger;
}

/** What a process knows of its cluster through Redis: one connection for commands, one for events. */
export class Cluster {
  readonly redis: Redis;
  readonly keys: RedisKeys;
  readonly events: ClusterEvents;
  readonly members: MemberView;
  readonly placements: PlacementView;
  readonly placementStore: PlacementStore;
  readonly loads: LoadStore;
  /** Which members are asked to drain. */
  readonly drains: DrainStore;
  /** What happened, for people: `guildhall events`. */
  readonly eventLog: EventLog;
  /** Requests that broke processes. */
  readonly quarantine: QuarantineStore;
  /** Responses that clients may ask for again, and those that run in the background. */
  readonly responses: ResponseStore;
  /** Which router has which pages. */
  readonly directory: PageDirectory;
  readonly #options: ClusterOptions;
  readonly #leases: MemberLease[] = [];
  readonly #closing = Promise.withResolvers<void>();
  #closed = false;

  constructor(options: ClusterOptions) {
    const { clock, logger } = options;
    this.#options = options;
    this.keys = redisKeys(options.cluster);
    const access = options.access ?? null;
    this.redis = connectRedis(options.redis, { logger, clock, access, key: this.keys.members });
    this.events = new ClusterEvents(this.redis, this.keys);
    this.placementStore = new PlacementStore(this.redis, this.keys);
    this.loads = new LoadStore(this.redis, this.keys);
    this.drains = new DrainStore(this.redis, this.keys);
    this.eventLog = new EventLog({ redis: this.redis, keys: this.keys, clock, logger });
    const { redis, keys, events } = this;
    this.quarantine = new QuarantineStore(redis, keys, events);
    this.responses = new ResponseStore(redis, keys);
    this.directory = new PageDirectory({ redis, keys, clock });
    this.members = new MemberView({ redis, keys, events, clock, logger, own: () => this.#heldTags() });
    this.placements = new PlacementView({ store: this.placementStore, events, clock, logger });
  }

  /** Starts both views; resolves after their first attempts, whether or not Redis answers, or once closed. */
  async start(): Promise<void> {
    // A client that is told to disconnect between two attempts to connect says nothing more.
    await Promise.race([firstAttempt(this.redis), this.#closing.promise]);
    if (this.#closed) return;
    await Promise.all([this.members.start(), this.placements.start()]);
  }

  /** A lease for this process, not yet joined; close() leaves it. */
  lease(options: Omit<MemberLeaseOptions, 'redis' | 'keys' | 'clock' | 'logger'>): MemberLease {
    const { clock, logger } = this.#options;
    const onEarlyEnd = (): void => this.members.expectReturns();
    const lease = new MemberLease({ redis: this.redis, keys: this.keys, clock, logger, onEarlyEnd, ...options });
    this.#leases.push(lease);
    return lease;
  }

  #heldTags(): string[] {
    return this.#leases.filter((lease) => lease.held).map((lease) => lease.tag);
  }

  /** Leaves the leases, stops the views and disconnects. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#closing.resolve();
    for (const lease of this.#leases) await lease.leave();
    await Promise.all([this.members.stop(), this.placements.stop()]);
    this.events.close();
    this.redis.disconnect();
  }
}
