import { errorMessage, type Logger } from '@guildhall/common';
import { Redis } from 'ioredis';
import type { BatchConfig } from './config.ts';

/** A connection for BullMQ, whose commands wait for Redis however long it is away. */
export function queueConnection(config: BatchConfig, logger: Logger): Redis {
  const redis = new Redis(config.redis, {
    maxRetriesPerRequest: null,
    enableReadyCheck: false,
    retryStrategy: (times) => Math.min(1000, 50 * 2 ** Math.min(times, 5)),
  });
  redis.on('error', (err) => logger.debug({ reason: errorMessage(err) }, 'the queue waits for Redis'));
  return redis;
}
