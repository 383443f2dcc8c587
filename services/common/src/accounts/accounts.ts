import type { Redis } from 'ioredis';
import type { Clock } from '../clock.ts';
import type { Logger } from '../logger.ts';
import { connectRedis, firstAttempt, type RedisAccess } from '../redis/client.ts';
import { ClusterEvents } from '../redis/events.ts';
import { type AccountKeys, accountKeys } from '../redis/keys.ts';
import { ApiKeyStore } from './key-store.ts';
import { QuotaStore } from './quota-store.ts';
import { UsageStore } from './usage-store.ts';

export interface AccountsOptions {
  /** URL of Redis, of its sentinels, or of a Redis Cluster. */
  redis: string;
  /** Name that the accounts are kept under; the cluster's, unless several share them. */
  name: string;
  access?: RedisAccess | null;
  clock: Clock;
  logger: Logger;
}

/** API keys, quotas and usage: one connection for commands, one for the news that a key has changed. */
export class Accounts {
  readonly redis: Redis;
  readonly names: AccountKeys;
  readonly keys: ApiKeyStore;
  readonly quotas: QuotaStore;
  readonly usage: UsageStore;
  readonly #events: ClusterEvents;

  constructor({ redis, name, access = null, clock, logger }: AccountsOptions) {
    this.names = accountKeys(name);
    this.redis = connectRedis(redis, { logger, clock, access, key: this.names.apiKeys });
    this.#events = new ClusterEvents(this.redis, this.names);
    this.keys = new ApiKeyStore(this.redis, this.names);
    this.quotas = new QuotaStore(this.redis, this.names);
    this.usage = new UsageStore(this.redis, this.names);
  }

  /** Resolves when the connection is up or its first attempt has failed. */
  async start(): Promise<void> {
    await firstAttempt(this.redis);
  }

  /** Calls back with the id of each key that is made, changed or revoked, until the returned function is called. */
  onKey(listener: (id: string) => void): () => void {
    return this.#events.on((event) => {
      if (event.type === 'key') listener(event.id);
    });
  }

  close(): void {
    this.#events.close();
    this.redis.disconnect();
  }
}
