import type { ConnectionOptions } from 'node:tls';
import { Redis } from 'ioredis';
import type { Clock } from '../clock.ts';
import { readTls } from '../grpc/channel.ts';
import type { Logger } from '../logger.ts';

/** Files for a Redis with TLS (`rediss://`). */
export interface RedisTls {
  /** Certificate and key that are shown to it. */
  tlsCert: string | null;
  tlsKey: string | null;
  /** Authority of its certificate; null for those that Node trusts. */
  redisCa: string | null;
}

export interface RedisClientOptions {
  logger: Logger;
  clock: Clock;
  tls?: RedisTls | null;
}

/** A command that takes longer has failed. */
export const COMMAND_TIMEOUT_MS = 1000;
const RECONNECT_CAP_MS = 1000;
/** A connection that owes an answer for so long is dead and is replaced. */
const SOCKET_TIMEOUT_MS = 3000;

function watch(redis: Redis, logger: Logger): void {
  let up: boolean | null = null;
  redis.on('ready', () => {
    if (up === false) logger.info('Redis answers again');
    up = true;
  });
  redis.on('error', (err: Error) => {
    if (up !== false) logger.warn({ reason: err.message }, 'Redis is away');
    up = false;
  });
}

/** What `rediss:` needs beyond its URL; plain `redis:` gets nothing. */
function tlsOptions(url: string, files: RedisTls | null): { tls: ConnectionOptions } | null {
  if (files === null || !url.startsWith('rediss:')) return null;
  const { tlsCert, tlsKey, redisCa } = files;
  const { cert, key, ca } = readTls({ tlsCert, tlsKey, tlsCa: redisCa });
  const present = Object.entries({ cert, key, ca }).filter(([, pem]) => pem !== null);
  return { tls: Object.fromEntries(present) as ConnectionOptions };
}

/**
 * Connects in the background and for ever, at most 1 s between two attempts. An outage never throws by itself: commands
 * fail at once while the connection is down, and after 1 s when Redis hangs. Throws `config_invalid` for TLS files that
 * cannot be read.
 */
export function connectRedis(url: string, options: RedisClientOptions): Redis {
  const redis = new Redis(url, {
    ...tlsOptions(url, options.tls ?? null),
    protocol: 2,
    lazyConnect: true,
    enableOfflineQueue: false,
    enableReadyCheck: false,
    disableClientInfo: true,
    autoResendUnfulfilledCommands: false,
    autoResubscribe: false,
    maxRetriesPerRequest: 0,
    commandTimeout: COMMAND_TIMEOUT_MS,
    socketTimeout: SOCKET_TIMEOUT_MS,
    connectTimeout: 2000,
    retryStrategy: (times) => Math.min(RECONNECT_CAP_MS, 50 * 2 ** Math.min(times, 5)),
  });
  watch(redis, options.logger);
  // The first attempt may fail like any other; the retry strategy goes on.
  redis.connect().catch(() => undefined);
  return redis;
}

/** Resolves when the connection is up or its first attempt has failed. */
export async function firstAttempt(redis: Redis): Promise<void> {
  if (redis.status === 'ready') return;
  await new Promise<void>((resolve) => {
    const done = (): void => {
      redis.off('ready', done).off('close', done);
      resolve();
    };
    redis.on('ready', done).on('close', done);
  });
}
