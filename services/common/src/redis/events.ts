import type { Redis } from 'ioredis';
import type { RedisKeys } from './keys.ts';

/** A message of the cluster's channel. */
export type ClusterEvent =
  | { type: 'members' }
  | { type: 'leave'; kind: string; id: string }
  | { type: 'epoch' }
  | { type: 'drains' }
  | { type: 'quarantine' }
  /** An API key was made, changed or revoked. */
  | { type: 'key'; id: string };

/** Messages that are their own type. */
const PLAIN = ['members', 'epoch', 'drains', 'quarantine'] as const;

function parseEvent(message: string): ClusterEvent | null {
  const plain = PLAIN.find((type) => type === message);
  if (plain !== undefined) return { type: plain };
  const key = /^key:(.+)$/.exec(message);
  if (key !== null) return { type: 'key', id: key[1] ?? '' };
  const leave = /^leave:([^/]+)\/(.+)$/.exec(message);
  return leave === null ? null : { type: 'leave', kind: leave[1] ?? '', id: leave[2] ?? '' };
}

/**
 * The cluster's pub/sub channel on a connection of its own. Messages are hints: they are lost while Redis is away,
 * and views poll as well.
 */
export class ClusterEvents {
  readonly #connection: Redis;
  readonly #listeners = new Set<(event: ClusterEvent) => void>();

  constructor(redis: Redis, keys: Pick<RedisKeys, 'events'>) {
    // A subscription is silent for as long as nothing happens, so silence is no sign of a dead socket here.
    this.#connection = redis.duplicate({ socketTimeout: undefined, keepAlive: 5000 });
    const subscribe = (): void => {
      // A subscription that fails because the connection broke is made again on the next 'ready'.
      this.#connection.subscribe(keys.events).catch(() => undefined);
    };
    this.#connection.on('ready', subscribe);
    this.#connection.on('error', () => undefined);
    this.#connection.on('message', (_channel: string, message: string) => this.#emit(message));
    this.#connection.connect().catch(() => undefined);
  }

  /** Calls `listener` for every message until the returned function is called. */
  on(listener: (event: ClusterEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  close(): void {
    this.#listeners.clear();
    this.#connection.disconnect();
  }

  #emit(message: string): void {
    const event = parseEvent(message);
    if (event === null) return;
    for (const listener of this.#listeners) listener(event);
  }
}
