import type { Redis } from 'ioredis';
import type { RedisKeys } from './keys.ts';
import { runScript } from './scripts.ts';

/** A report that is older no longer counts. */
export const LOAD_TTL_MS = 60_000;

export interface StoredLoad {
  reporter: string;
  bytes: Buffer;
}

/** Load reports: the latest of each reporter. */
export class LoadStore {
  readonly #redis: Redis;
  readonly #keys: RedisKeys;

  constructor(redis: Redis, keys: RedisKeys) {
    this.#redis = redis;
    this.#keys = keys;
  }

  /** Throws `redis_unavailable`. */
  async report(reporter: string, bytes: Uint8Array, ttlMs: number = LOAD_TTL_MS): Promise<void> {
    await runScript(
      this.#redis,
      'load-report',
      [this.#keys.load(reporter), this.#keys.loads],
      [reporter, bytes, ttlMs],
    );
  }

  /** Sorted by reporter. Throws `redis_unavailable`. */
  async read(): Promise<StoredLoad[]> {
    const flat = (await runScript(this.#redis, 'loads-read', [this.#keys.loads], [this.#keys.loadPrefix])) as Buffer[];
    const loads: StoredLoad[] = [];
    for (let i = 0; i + 1 < flat.length; i += 2)
      loads.push({ reporter: String(flat[i]), bytes: flat[i + 1] ?? Buffer.alloc(0) });
    return loads.sort((a, b) => (a.reporter < b.reporter ? -1 : 1));
  }
}
