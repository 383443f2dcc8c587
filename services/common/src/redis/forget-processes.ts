import { firstAttempt, connectRedis } from './client.ts';
import type { ClusterOptions } from './cluster.ts';
import { outlivesProcesses, redisKeys } from './keys.ts';
import { redisError } from './scripts.ts';

const KEYS_AT_ONCE = 1000;

/**
 * Removes what the processes of a cluster wrote about themselves: leases, placements, pages. Accounts and what clients asked to keep
 * stay. For a Redis that keeps its data, before any process of the cluster is started, and only while none runs.
 * @returns how many keys were removed. Throws `redis_unavailable`, `redis_denied`.
 */
export async function forgetProcesses(options: ClusterOptions): Promise<number> {
  const { redis: url, cluster, access = null, clock, logger } = options;
  const keys = redisKeys(cluster);
  const redis = connectRedis(url, { logger, clock, access, key: keys.members });
  try {
    await firstAttempt(redis);
    let removed = 0;
    let cursor = '0';
    do {
      const [next, names] = await redis.scan(cursor, 'MATCH', `${keys.prefix}*`, 'COUNT', KEYS_AT_ONCE);
      const dead = names.filter((name) => !outlivesProcesses(cluster, name));
      if (dead.length > 0) removed += await redis.unlink(...dead);
      cursor = next;
    } while (cursor !== '0');
    return removed;
  } catch (err) {
    throw redisError(err);
  } finally {
    redis.disconnect();
  }
}
