import type { Redis } from 'ioredis';
import type { ClusterEvents } from './events.ts';
import type { RedisKeys } from './keys.ts';
import { runScript } from './scripts.ts';

/** A request that is refused. */
export interface Quarantined {
  /** Of the request; says nothing about its text. */
  fingerprint: string;
  /** Milliseconds until it is taken again. */
  leftMs: number;
}

/** Fingerprints kept at most. */
const MAX_ENTRIES = 10_000;

/**
 * Requests that broke processes, shared by all gateways; and the place for one suspicious request at a time that each
 * router has.
 */
export class QuarantineStore {
  readonly #redis: Redis;
  readonly #keys: RedisKeys;
  readonly #events: ClusterEvents;

  constructor(redis: Redis, keys: RedisKeys, events: ClusterEvents) {
    this.#redis = redis;
    this.#keys = keys;
    this.#events = events;
  }

  /** Quarantines a fingerprint from now on for `ms`, or for longer if it is already. Throws `redis_unavailable`. */
  async add(fingerprint: string, ms: number): Promise<void> {
    const { quarantine, events } = this.#keys;
    await runScript(this.#redis, 'quarantine-add', [quarantine], [fingerprint, Math.ceil(ms), MAX_ENTRIES, events]);
  }

  /** What is quarantined now. Throws `redis_unavailable`. */
  async read(): Promise<Quarantined[]> {
    const flat = (await runScript(this.#redis, 'quarantine-read', [this.#keys.quarantine], [])) as Buffer[];
    const list: Quarantined[] = [];
    for (let i = 0; i + 1 < flat.length; i += 2)
      list.push({ fingerprint: String(flat[i]), leftMs: Number(flat[i + 1]) });
    return list;
  }

  /** Calls back when somebody has added a fingerprint, until the returned function is called. */
  onChange(listener: () => void): () => void {
    return this.#events.on((event) => {
      if (event.type === 'quarantine') listener();
    });
  }

  /** Takes or keeps the place in a router for `holder`; false when another one has it. Throws `redis_unavailable`. */
  async hold(router: string, holder: string, leaseMs: number): Promise<boolean> {
    const held = await runScript(this.#redis, 'probation-hold', [this.#keys.probation(router)], [holder, leaseMs]);
    return Number(held) === 1;
  }

  /** Gives the place in a router up, if `holder` has it. Throws `redis_unavailable`. */
  async letGo(router: string, holder: string): Promise<void> {
    await this.hold(router, holder, 0);
  }
}
