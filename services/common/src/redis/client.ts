import { Redis } from 'ioredis';
import type { ConnectionOptions } from 'node:tls';
import type { Clock } from '../clock.ts';
import { errorMessage, fail, type GuildhallError } from '../errors.ts';
import { tlsFiles } from '../grpc/channel.ts';
import type { Logger } from '../logger.ts';
import { parseRedisUrl, type RedisAddress } from './address.ts';
import { type RedisSettings, slotConnector } from './slot-connector.ts';

/** Who this process is to Redis: files for TLS (`rediss`), users and passwords. They win over those of the URL. */
export interface RedisAccess {
  /** Certificate and key that are shown to it. */
  tlsCert: string | null;
  tlsKey: string | null;
  /** Authority of its certificate; null for those that Node trusts. */
  redisCa: string | null;
  redisUsername?: string | null;
  redisPassword?: string | null;
  /** For sentinels that ask for credentials of their own. */
  sentinelUsername?: string | null;
  sentinelPassword?: string | null;
}

export interface RedisOptionsInput {
  access?: RedisAccess | null;
  /** A key of the cluster. Needed for a Redis Cluster, where its slot decides which node is connected to. */
  key?: string;
}

export interface RedisClientOptions extends RedisOptionsInput {
  logger: Logger;
  clock: Clock;
}

/** A command that takes longer has failed. */
export const COMMAND_TIMEOUT_MS = 1000;
const RECONNECT_CAP_MS = 1000;
const CONNECT_TIMEOUT_MS = 2000;
/** A connection that owes an answer for so long is dead and is replaced. */
const SOCKET_TIMEOUT_MS = 3000;
/** Answers of a node that is the wrong one by now: a replica, or of a cluster without the slot or without a majority. */
const WRONG_NODE = /^(READONLY|MOVED|CLUSTERDOWN|MASTERDOWN)\b/;
/** Answers that the same credentials will always get. */
const DENIED = /^(WRONGPASS|NOAUTH|NOPERM)\b|invalid username-password pair|invalid password/;

/** Clients whose last attempt to connect was refused for who they are, with the reason. */
const refusals = new WeakMap<Redis, GuildhallError>();

/** Why Redis lets this client not in, as `redis_denied`; null while nothing says so. */
export function redisRefusal(redis: Redis): GuildhallError | null {
  return refusals.get(redis) ?? null;
}

/** A failure of Redis as an error of the registry: `redis_denied` for credentials and rights, else `redis_unavailable`. */
export function redisFailure(err: unknown): GuildhallError {
  const message = errorMessage(err);
  return fail(DENIED.test(message) ? 'redis_denied' : 'redis_unavailable', `Redis: ${message}`, { cause: err });
}

function watch(redis: Redis, logger: Logger): void {
  let up: boolean | null = null;
  redis.on('ready', () => {
    if (up === false) logger.info('Redis answers again');
    up = true;
    refusals.delete(redis);
  });
  redis.on('error', (err: Error) => {
    const failure = redisFailure(err);
    const denied = failure.code === 'redis_denied';
    if (denied && !refusals.has(redis)) logger.error({ reason: err.message }, 'Redis refuses this process');
    else if (up !== false) logger.warn({ reason: err.message }, 'Redis is away');
    if (denied) refusals.set(redis, failure);
    up = false;
  });
}

/** What a TLS connection shows and trusts; asked for at each connection, because certificates are replaced in place. */
function tlsOptions(access: RedisAccess | null): ConnectionOptions {
  if (access === null) return {};
  const files = tlsFiles({ tlsCert: access.tlsCert, tlsKey: access.tlsKey, tlsCa: access.redisCa }, 'redisCa');
  return {
    get secureContext() {
      return files.current().context;
    },
  };
}

function place(
  address: RedisAddress,
  key: string | undefined,
  common: RedisSettings,
  sentinel: RedisSettings,
): RedisSettings {
  if (address.mode === 'single') return { ...address.node, db: address.db };
  if (address.mode === 'sentinel') {
    return {
      sentinels: address.sentinels,
      name: address.name,
      role: 'master',
      enableTLSForSentinelMode: address.tls,
      // Sentinels end the connections of a master that they demote. Told by a subscription as well, ioredis 6.0.0 gives up
      // for good when the message comes while it is connecting.
      failoverDetector: false,
      sentinelCommandTimeout: COMMAND_TIMEOUT_MS,
      sentinelRetryStrategy: retryDelay,
      ...(common.tls === undefined ? {} : { sentinelTLS: common.tls }),
      ...sentinel,
    };
  }
  if (key === undefined) throw fail('internal', 'a Redis Cluster needs a key to find the node of');
  return { Connector: slotConnector({ seeds: address.nodes, key, ask: common, tls: common.tls ?? null, retryDelay }) };
}

function retryDelay(times: number): number {
  return Math.min(RECONNECT_CAP_MS, 50 * 2 ** Math.min(times, 5));
}

/** Options with a value; ioredis tells absent from null. */
function present(values: Record<string, string | null | undefined>): Record<string, string> {
  return Object.fromEntries(
    Object.entries(values).filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
  );
}

/**
 * Options of ioredis for any kind of Redis: a server, the master that sentinels name, the owner of a slot of a cluster. For
 * clients that keep their own rules of time-outs and queues; `connectRedis` has those of Guildhall. Throws
 * `config_invalid` for a URL or TLS files that cannot be read.
 */
export function redisOptions(url: string, { access = null, key }: RedisOptionsInput): RedisSettings {
  const address = parseRedisUrl(url);
  const common: RedisSettings = {
    protocol: 2,
    disableClientInfo: true,
    connectTimeout: CONNECT_TIMEOUT_MS,
    commandTimeout: COMMAND_TIMEOUT_MS,
    enableReadyCheck: false,
    ...present({
      username: access?.redisUsername ?? address.username,
      password: access?.redisPassword ?? address.password,
    }),
    ...(address.tls ? { tls: tlsOptions(access) } : {}),
  };
  const { sentinelUsername, sentinelPassword } = access ?? {};
  return {
    ...common,
    retryStrategy: retryDelay,
    reconnectOnError: (err) => WRONG_NODE.test(err.message),
    ...place(address, key, common, present({ sentinelUsername, sentinelPassword })),
  };
}

/**
 * Connects in the background and for ever, at most 1 s between two attempts. An outage never throws by itself: commands
 * fail at once while the connection is down, and after 1 s when Redis hangs. A replica that took over, or a slot that
 * moved, is an outage until the new place is found. Throws `config_invalid`.
 */
export function connectRedis(url: string, options: RedisClientOptions): Redis {
  const settings: RedisSettings = {
    ...redisOptions(url, options),
    lazyConnect: true,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    autoResubscribe: false,
    maxRetriesPerRequest: 0,
    socketTimeout: SOCKET_TIMEOUT_MS,
  };
  const redis = new Redis(settings);
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
      redis.off('ready', done).off('close', done).off('error', done);
      resolve();
    };
    // Where the server must be asked for first, of sentinels or of a cluster, nothing closes for as long as nobody answers.
    redis.on('ready', done).on('close', done).on('error', done);
  });
}
