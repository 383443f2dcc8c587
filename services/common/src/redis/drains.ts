import { randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import type { RedisKeys } from './keys.ts';
import type { LeaderFence } from './leader.ts';
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

/** A shrink: the workload, and how many replicas it had when that began. Its requests are `by` it. */
export interface ShrinkId {
  deployment: string;
  from: number | null;
}

export type ShrinkBegin = 'begun' | 'busy' | 'not_leader';

const SHRINK = /^autoscaler\/([^/]+)\/(\d+)$/;

function shrinkText({ deployment, from }: ShrinkId): string {
  return `autoscaler/${deployment}/${from ?? ''}`;
}

/** The shrink that a request is of; null for one of a person. */
export function shrinkOf({ by }: Pick<DrainRequest, 'by'>): { deployment: string; from: number } | null {
  const match = SHRINK.exec(by);
  return match === null ? null : { deployment: match[1] ?? '', from: Number(match[2]) };
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

  /**
   * Asks members of a workload to drain because it is to shrink, all of them or none: `busy` when a shrink of it is under way, or
   * when one of them is asked already. The fence must be the leader's. Throws `redis_unavailable`.
   */
  async beginShrink(
    shrink: ShrinkId,
    tags: readonly string[],
    atMs: number,
    leader: LeaderFence,
  ): Promise<ShrinkBegin> {
    const { drains, leader: leaderKey, events } = this.#keys;
    const rest = { by: shrinkText(shrink), atMs, state: 'asked' as const, keeps: 0, why: '' };
    const requests = tags.flatMap((tag) => [tag, textOf({ tag, ...rest })]);
    const args = [leader.owner, leader.fence, shrinkText({ ...shrink, from: null }), events, ...requests];
    const result = await runScript(this.#redis, 'shrink-begin', [drains, leaderKey], args);
    return result === 1 ? 'begun' : result === 0 ? 'busy' : 'not_leader';
  }

  /** Takes requests of a shrink back; false when the fence is not the leader's. Throws `redis_unavailable`. */
  async endShrink(shrink: ShrinkId, tags: readonly string[], leader: LeaderFence): Promise<boolean> {
    const { drains, leader: leaderKey, events } = this.#keys;
    const args = [leader.owner, leader.fence, shrinkText(shrink), events, ...tags];
    return Number(await runScript(this.#redis, 'shrink-end', [drains, leaderKey], args)) >= 0;
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
