import type { Redis } from 'ioredis';
import type { Clock } from '../clock.ts';
import { errorMessage } from '../errors.ts';
import type { Logger } from '../logger.ts';
import type { RedisKeys } from './keys.ts';
import { redisError } from './scripts.ts';

/** What can happen to a cluster; the closed list of kinds, each with what it tells. */
export const EVENT_KINDS = {
  placement: 'An epoch was published, with the reason and what it costs.',
  placement_kept: 'A better placement was found but is not worth moving to.',
  placement_short: 'The experts do not fit on the workers.',
  leader: 'Another controller leads.',
  worker_joined: 'A worker joined.',
  worker_left: 'A worker left, or its lease ended.',
  worker_refused: 'A worker of another checkpoint or numerics class gets nothing.',
  worker_sick: 'A router stopped sending to a worker.',
  worker_recovered: 'A router sends to a worker again.',
  drain_started: 'A member is asked to drain.',
  drain_done: 'Nobody needs a draining member any more.',
  drain_cancelled: 'A member is no longer asked to drain.',
  load_failed: 'A worker cannot load experts that were given to it.',
  experts_lost: 'Experts have no live holder.',
  experts_recovered: 'Every expert has a live holder again.',
  stream_resumed: 'A stream goes on in another router.',
  router_lost: 'A router died under streams.',
  quarantined: 'A request that broke processes is refused from now on.',
} as const;

export type EventKind = keyof typeof EVENT_KINDS;

/** Something that happened. */
export interface ClusterRecord {
  /** `ms-n`; ascending in the order of Redis. */
  id: string;
  /** By the writer's clock, milliseconds since the Unix epoch. */
  atMs: number;
  kind: EventKind;
  /** Id of the process that says so. */
  source: string;
  /** One sentence for people. */
  message: string;
  /** Facts for programs; never prompt text or secrets. */
  details: Record<string, unknown>;
}

export interface EventLogOptions {
  redis: Redis;
  keys: RedisKeys;
  clock: Clock;
  logger: Logger;
}

/** Entries kept, about. */
const KEEP = 10_000;
/** Events waiting for a Redis that is away; older ones are dropped first. */
const MAX_WAITING = 256;

/** The cluster's event log in Redis. Writing never waits and never fails: events are for people, not for control. */
export class EventLog {
  readonly #o: EventLogOptions;
  #waiting: string[] = [];
  #writing: Promise<void> | null = null;
  #dropped = 0;

  constructor(options: EventLogOptions) {
    this.#o = options;
  }

  /** Notes an event; it is written in the background, in order. */
  append(kind: EventKind, source: string, message: string, details: Record<string, unknown> = {}): void {
    this.#waiting.push(JSON.stringify({ atMs: this.#o.clock.nowMs(), kind, source, message, details }));
    if (this.#waiting.length > MAX_WAITING) {
      this.#waiting.shift();
      this.#dropped += 1;
    }
    this.#writing ??= this.#write().finally(() => (this.#writing = null));
  }

  /** Events after `after` (an id; '0' for all that are kept), oldest first. Throws `redis_unavailable`. */
  async read(after = '0', limit = 1000): Promise<ClusterRecord[]> {
    const { redis, keys } = this.#o;
    try {
      const entries = await redis.xrange(keys.eventLog, after === '0' ? '-' : `(${after}`, '+', 'COUNT', limit);
      return entries.flatMap(recordOf);
    } catch (err) {
      throw redisError(err);
    }
  }

  /** The newest `limit` events, oldest first. Throws `redis_unavailable`. */
  async tail(limit: number): Promise<ClusterRecord[]> {
    const { redis, keys } = this.#o;
    try {
      return (await redis.xrevrange(keys.eventLog, '+', '-', 'COUNT', limit)).reverse().flatMap(recordOf);
    } catch (err) {
      throw redisError(err);
    }
  }

  /** Resolves when what was noted so far is written or given up. */
  async flushed(): Promise<void> {
    await this.#writing;
  }

  async #write(): Promise<void> {
    const { redis, keys, logger } = this.#o;
    for (let text = this.#waiting.shift(); text !== undefined; text = this.#waiting.shift()) {
      try {
        await redis.xadd(keys.eventLog, 'MAXLEN', '~', KEEP, '*', 'event', text);
      } catch (err) {
        // The next event tries again, with this one before it.
        this.#waiting.unshift(text);
        logger.debug({ reason: errorMessage(err), waiting: this.#waiting.length }, 'event not written');
        return;
      }
    }
    if (this.#dropped > 0) logger.warn({ dropped: this.#dropped }, 'events were dropped while Redis was away');
    this.#dropped = 0;
  }
}

/** An entry as a record; one of another release that cannot be read is passed over. */
function recordOf([id, fields]: [string, string[]]): ClusterRecord[] {
  try {
    const { atMs, kind, source, message, details } = JSON.parse(fields[1] ?? '') as ClusterRecord;
    return kind in EVENT_KINDS ? [{ id, atMs, kind, source, message, details }] : [];
  } catch {
    return [];
  }
}
