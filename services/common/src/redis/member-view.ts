import { randomUUID } from 'node:crypto';
import type { Redis } from 'ioredis';
import type { Clock } from '../clock.ts';
import { errorMessage } from '../errors.ts';
import type { Logger } from '../logger.ts';
import type { ClusterEvent, ClusterEvents } from './events.ts';
import type { RedisKeys } from './keys.ts';
import { LEASE_MS } from './member-lease.ts';
import { Poller } from './poller.ts';
import { runScript } from './scripts.ts';

export interface MemberEntry {
  kind: string;
  id: string;
  incarnation: bigint;
  value: Buffer;
}

export interface MemberViewOptions {
  redis: Redis;
  keys: RedisKeys;
  events: ClusterEvents;
  clock: Clock;
  logger: Logger;
  pollMs?: number;
  leaseMs?: number;
  /** `kind/id` of this process's own leases, of which it knows that they go on. */
  own?: () => readonly string[];
}

interface Snapshot {
  generation: string;
  members: Map<string, MemberEntry>;
}

function parseSnapshot(answer: unknown): Snapshot {
  const [generation, ...fields] = (answer as Buffer[]).slice();
  const members = new Map<string, MemberEntry>();
  for (let i = 0; i + 2 < fields.length; i += 3) {
    const tag = String(fields[i]);
    const slash = tag.indexOf('/');
    members.set(tag, {
      kind: tag.slice(0, slash),
      id: tag.slice(slash + 1),
      incarnation: BigInt(String(fields[i + 1])),
      value: fields[i + 2] ?? Buffer.alloc(0),
    });
  }
  return { generation: String(generation), members };
}

/**
 * The members of a cluster as last seen. A lease that ends removes its member at once, except around an outage:
 * while Redis is away the list stays as it was (`stale`), and for one lease after it came back, or came back
 * without its data, or ended a lease that goes on (its clock jumped), a missing member is given the time to put itself back.
 */
export class MemberView {
  readonly #options: MemberViewOptions;
  readonly #leaseMs: number;
  readonly #poller: Poller;
  readonly #listeners = new Set<() => void>();
  #members = new Map<string, MemberEntry>();
  readonly #left = new Set<string>();
  #generation: string | null = null;
  #stale = true;
  #graceUntilMs = 0;
  #unsubscribe: (() => void) | null = null;

  constructor(options: MemberViewOptions) {
    this.#options = options;
    this.#leaseMs = options.leaseMs ?? LEASE_MS;
    this.#poller = new Poller(options.clock, options.pollMs ?? 1000, () => this.#poll());
  }

  /** Live members, sorted by kind and id. */
  members(): MemberEntry[] {
    return [...this.#members.entries()].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, entry]) => entry);
  }

  /** True before the first answer and while Redis is away. */
  get stale(): boolean {
    return this.#stale;
  }

  /** Calls `listener` after the list or `stale` changed, until the returned function is called. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  /** Resolves after the first attempt to read the list. */
  async start(): Promise<void> {
    const { redis, events } = this.#options;
    const back = (): void => this.#poller.poke();
    const off = events.on((event) => this.#onEvent(event));
    redis.on('ready', back);
    this.#unsubscribe = () => {
      off();
      redis.off('ready', back);
    };
    await this.#poller.start();
  }

  /** Redis has ended a lease too early, and maybe others: whoever is missing is given the time to come back. */
  expectReturns(): void {
    this.#graceUntilMs = this.#options.clock.monotonicMs() + this.#leaseMs;
  }

  /** Resolves after the list was read anew, or could not be. */
  refresh(): Promise<void> {
    return this.#poller.run();
  }

  async stop(): Promise<void> {
    this.#unsubscribe?.();
    await this.#poller.stop();
    this.#listeners.clear();
  }

  #onEvent(event: ClusterEvent): void {
    if (event.type === 'leave') this.#left.add(`${event.kind}/${event.id}`);
    if (event.type === 'members' || event.type === 'leave') this.#poller.poke();
  }

  async #poll(): Promise<void> {
    const { redis, keys, logger } = this.#options;
    try {
      const answer = await runScript(
        redis,
        'members-read',
        [keys.members, keys.generation],
        [keys.memberPrefix, randomUUID()],
      );
      this.#apply(parseSnapshot(answer));
    } catch (err) {
      if (!this.#stale) {
        logger.warn({ reason: errorMessage(err) }, 'the list of members is stale');
        this.#stale = true;
        this.#emit();
      }
    }
  }

  #apply(next: Snapshot): void {
    const nowMs = this.#options.clock.monotonicMs();
    const lostData = this.#generation !== null && this.#generation !== next.generation;
    const wasAway = this.#stale && this.#generation !== null;
    const lacksOwn = this.#options.own?.().some((tag) => !next.members.has(tag)) === true;
    if (lostData || wasAway || lacksOwn) this.expectReturns();
    this.#generation = next.generation;
    const missing = [...this.#members].filter(([tag]) => !next.members.has(tag) && !this.#left.has(tag));
    if (nowMs < this.#graceUntilMs) for (const [tag, entry] of missing) next.members.set(tag, entry);
    this.#left.clear();
    const changed = this.#stale || !sameMembers(this.#members, next.members);
    this.#members = next.members;
    this.#stale = false;
    if (changed) this.#emit();
  }

  #emit(): void {
    for (const listener of this.#listeners) listener();
  }
}

function sameMembers(a: Map<string, MemberEntry>, b: Map<string, MemberEntry>): boolean {
  if (a.size !== b.size) return false;
  for (const [tag, entry] of a) {
    const other = b.get(tag);
    if (other === undefined || other.incarnation !== entry.incarnation || !other.value.equals(entry.value))
      return false;
  }
  return true;
}
