import { randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import type { RedisKeys } from './keys.ts';
import { runScript } from './scripts.ts';

/**
 * How far a drain is: `asked` until a controller has seen it, `moving` while others take over, `kept` while they have no
 * room for all of it, `done` when nobody needs the member any more.
 */
export type DrainState = 'asked' | 'moving' | 'kept' | 'done';

const STATES: ReadonlySet<string> = new Set<DrainState>(['asked', 'moving', 'kept', 'done']);

/** A request that a member drains. It stays until it is taken back, also over restarts of the member. */
export interface DrainRequest {
  /** `kind/id`. */
  tag: string;
  /** Who asked. */
  by: string;
  /** By the clock of who asked, milliseconds since the Unix epoch. */
  atMs: number;
  state: DrainState;
  /** Experts that it still has to hold, by the controller. */
  keeps: number;
  /** For people: what it waits for, or why it keeps something. */
  why: string;
}

export interface DrainSnapshot {
  /** Another one than before: Redis lost its data and the requests with it. */
  generation: string;
  /** By `kind/id`. */
  requests: Map<string, DrainRequest>;
}

/** The requests that members drain. */
export class DrainStore {
  readonly #redis: Redis;
  readonly #keys: RedisKeys;

  constructor(redis: Redis, keys: RedisKeys) {
    this.#redis = redis;
    this.#keys = keys;
  }

  /** Asks for a drain; false when it was asked for before. Throws `redis_unavailable`. */
  async request(request: DrainRequest): Promise<boolean> {
    const { drains, events } = this.#keys;
    return (await runScript(this.#redis, 'drain-request', [drains], [request.tag, textOf(request), events])) === 1;
  }

  /** Notes what came of `read`; false when it was taken back or changed meanwhile. Throws `redis_unavailable`. */
  async mark(read: DrainRequest, next: Pick<DrainRequest, 'state' | 'keeps' | 'why'>): Promise<boolean> {
    const { drains, events } = this.#keys;
    const args = [read.tag, textOf(read), textOf({ ...read, ...next }), events];
    return (await runScript(this.#redis, 'drain-mark', [drains], args)) === 1;
  }

  /** Takes a request back; false when there was none. Throws `redis_unavailable`. */
  async cancel(tag: string): Promise<boolean> {
    const { drains, events } = this.#keys;
    return (await runScript(this.#redis, 'drain-cancel', [drains], [tag, events])) === 1;
  }

  /** What is asked for now; entries that cannot be read are passed over. Throws `redis_unavailable`. */
  async read(): Promise<DrainSnapshot> {
    const { drains, generation } = this.#keys;
    const [first, ...flat] = (await runScript(
      this.#redis,
      'drains-read',
      [drains, generation],
      [randomUUID()],
    )) as Buffer[];
    const requests = new Map<string, DrainRequest>();
    for (let i = 0; i + 1 < flat.length; i += 2) {
      const request = requestOf(String(flat[i]), String(flat[i + 1]));
      if (request !== null) requests.set(request.tag, request);
    }
    return { generation: String(first), requests };
  }
}

/** The one spelling of a request, so that a mark can tell whether it is still the one that was read. */
function textOf({ by, atMs, state, keeps, why }: DrainRequest): string {
  return JSON.stringify({ by, atMs, state, keeps, why });
}

function requestOf(tag: string, text: string): DrainRequest | null {
  try {
    const { by, atMs, state, keeps, why } = JSON.parse(text) as DrainRequest;
    if (typeof by !== 'string' || typeof atMs !== 'number' || !STATES.has(state)) return null;
    return { tag, by, atMs, state, keeps: Number(keeps), why: String(why) };
  } catch {
    return null;
  }
}
