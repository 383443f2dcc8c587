import { errorMessage, type Logger, redisOptions } from '@guildhall/common';
import { Redis } from 'ioredis';
import type { BatchConfig } from './config.ts';

/**
 * A connection for BullMQ, whose commands wait for Redis however long it is away. `key` is one of the queue's, for a Redis
 * Cluster.
 */
export function queueConnection(config: BatchConfig, key: string, logger: Logger): Redis {
  const { commandTimeout: _, ...options } = redisOptions(config.redis, { access: config, key });
  const redis = new Redis({
    ...options,
    maxRetriesPerRequest: null,
    retryStrategy: (times) => Math.min(1000, 50 * 2 ** Math.min(times, 5)),
  });
  redis.on('error', (err) => logger.debug({ reason: errorMessage(err) }, 'the queue waits for Redis'));
  return redis;
}
