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
  worker_expected: 'Kubernetes says that a worker is ready which Redis does not know; it is waited for.',
  worker_refused: 'A worker of another checkpoint or numerics class gets nothing.',
  worker_sick: 'A router stopped sending to a worker.',
  worker_recovered: 'A router sends to a worker again.',
  drain_started: 'A member is asked to drain.',
  drain_done: 'Nobody needs a draining member any more.',
  drain_cancelled: 'A member is no longer asked to drain.',
  shrink_started: 'A workload is to shrink: pods of it drain before they are deleted.',
  shrink_done: 'A workload has shrunk.',
  shrink_aborted: 'A workload does not shrink after all.',
  load_failed: 'A worker cannot load experts that were given to it.',
  experts_lost: 'Experts have no live holder.',
  experts_recovered: 'Every expert has a live holder again.',
  stream_resumed: 'A stream goes on in another router.',
  router_lost: 'A router died under streams.',
  autoscaler: 'The autoscaler has changed something, or recommends it.',
  autoscaler_alarm: 'The autoscaler cannot do what is wanted, or does not know enough.',
  quarantined: 'A request that broke processes is refused from now on.',
} as const;

export type EventKind = keyof typeof EVENT_KINDS;

export function isEventKind(text: string): text is EventKind {
  return Object.hasOwn(EVENT_KINDS, text);
}

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

/** A place in the log: the id of the last event seen, '0' for its beginning. */
export type EventCursor = string;

/** The cluster's event log in Redis. Writing never waits and never fails: events are for people, not for control. */
export class EventLog {
  readonly #o: EventLogOptions;
  #waiting: string[] = [];
  #writing: Promise<void> | null = null;
  #dropped = 0;

  constructor(options: EventLogOptions) {
    this.#o = options;
    // What waited for Redis goes out when it is back, not only with the next event.
    options.redis.on('ready', () => this.#poke());
  }

  /** Notes an event; it is written in the background, in order. */
  append(kind: EventKind, source: string, message: string, details: Record<string, unknown> = {}): void {
    this.#waiting.push(JSON.stringify({ atMs: this.#o.clock.nowMs(), kind, source, message, details }));
    if (this.#waiting.length > MAX_WAITING) {
      this.#waiting.shift();
      this.#dropped += 1;
    }
    this.#poke();
  }

  /**
   * Events after `after` that are kept, oldest first, at most about `limit`, and where to go on. A log that is younger
   * than `after`, because Redis lost its data, is read from its beginning. Throws `redis_unavailable`.
   */
  async follow(after: EventCursor, limit = 1000): Promise<{ events: ClusterRecord[]; next: EventCursor }> {
    const { redis, keys } = this.#o;
    try {
      const [newest] = await redis.xrevrange(keys.eventLog, '+', '-', 'COUNT', 1);
      const from = after !== '0' && (newest === undefined || comesBefore(newest[0], after)) ? '0' : after;
      const entries = await redis.xrange(keys.eventLog, from === '0' ? '-' : `(${from}`, '+', 'COUNT', limit);
      return { events: entries.flatMap(recordOf), next: entries.at(-1)?.[0] ?? from };
    } catch (err) {
      throw redisError(err);
    }
  }

  /** Events after `after` (an id; '0' for all that are kept), oldest first. Throws `redis_unavailable`. */
  async read(after: EventCursor = '0', limit = 1000): Promise<ClusterRecord[]> {
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

  #poke(): void {
    this.#writing ??= this.#write().finally(() => (this.#writing = null));
  }

  async #write(): Promise<void> {
    const { redis, keys, logger } = this.#o;
    for (let [text] = this.#waiting; text !== undefined; [text] = this.#waiting) {
      try {
        await redis.xadd(keys.eventLog, 'MAXLEN', '~', KEEP, '*', 'event', text);
        // Unless it was dropped meanwhile.
        if (this.#waiting[0] === text) this.#waiting.shift();
      } catch (err) {
        // It stays the first, for the next event or the next connection.
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
    const whole = isEventKind(kind) && typeof atMs === 'number' && typeof message === 'string';
    return whole ? [{ id, atMs, kind, source: String(source), message, details: details ?? {} }] : [];
  } catch {
    return [];
  }
}

/** Order of stream ids: `ms-n`. */
function comesBefore(a: EventCursor, b: EventCursor): boolean {
  const [ams = 0, an = 0] = a.split('-').map(Number);
  const [bms = 0, bn = 0] = b.split('-').map(Number);
  return ams < bms || (ams === bms && an < bn);
}
