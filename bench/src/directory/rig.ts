import { hash } from 'node:crypto';
import {
  connectRedis,
  type DirectoryEntry,
  type DirectoryOwner,
  fail,
  PageDirectory,
  type PageName,
  redisKeys,
  systemClock,
} from '@guildhall/common';
import { eventually, RedisServer, silentLogger } from '@guildhall/common/testing';

/** Pages of 64 tokens in a context of 262,144. */
export const PAGES = 4096;
/** Pages between two states, as routers take them by default. */
const GRID = 64;
/** Entries of other prompts that every holder has. */
const OTHERS = 50_000;
const LEASE_MS = 3_600_000;
const COMMAND_TIMEOUT_MS = 60_000;
/** Enough calls that the clock and the timer of the event loop do not show. */
const BATCH_MS = 200;

/** A time as the client sees it, and the part of it that Redis took. */
export interface Timing {
  clientMs: number;
  redisMs: number;
}

/** A redis-server of its own with routers that hold many prompts. */
export class DirectoryRig {
  readonly directory: PageDirectory;
  readonly names: readonly PageName[];
  readonly entries: readonly DirectoryEntry[];
  readonly owners: DirectoryOwner[] = [];
  readonly #server: RedisServer;
  readonly #redis: ReturnType<typeof connectRedis>;

  private constructor(server: RedisServer) {
    this.#server = server;
    this.#redis = connectRedis(server.url, { logger: silentLogger(), clock: systemClock });
    // A machine that stalls for a second spoils a figure, not the whole run.
    this.#redis.options.commandTimeout = COMMAND_TIMEOUT_MS;
    const keys = redisKeys('bench');
    this.directory = new PageDirectory({ redis: this.#redis, keys, clock: systemClock, leaseMs: LEASE_MS });
    this.names = namesOf('prompt', PAGES);
    this.entries = this.names.map(page);
  }

  static async start(): Promise<DirectoryRig> {
    const rig = new DirectoryRig(await RedisServer.start());
    await eventually(() => rig.#redis.status === 'ready', 'connection');
    return rig;
  }

  /** Adds a router that holds the whole prompt with its states, beside others. */
  async addHolder(): Promise<DirectoryOwner> {
    const index = this.owners.length;
    const result = await this.directory.fence(`router-${index}`, BigInt(index + 1));
    if (result.status !== 'ok') throw fail('internal', 'a new router was replaced');
    const { owner } = result;
    this.owners.push(owner);
    const states = this.names
      .filter((_, i) => (i + 1) % GRID === 0)
      .map((name): DirectoryEntry => ({ ...page(name), kind: 'state', size: 1 << 20 }));
    await this.publish(owner, [...this.entries, ...states, ...namesOf(`others of ${index}`, OTHERS).map(page)]);
    return owner;
  }

  async publish(owner: DirectoryOwner, added: readonly DirectoryEntry[]): Promise<void> {
    const answer = await this.directory.publish(owner, { added, removed: [] }, '0');
    if (answer.status !== 'ok' || answer.full) throw fail('internal', 'the publication was refused');
  }

  /** The prompt with only its first pages in the directory. */
  promptWith(hits: number): PageName[] {
    return [...this.names.slice(0, hits), ...namesOf('unknown', PAGES - hits)];
  }

  /** Mean times of `work`, called one after the other for a while. `prepare` is not counted. */
  async time(work: () => Promise<unknown>, prepare: () => Promise<unknown> = async () => undefined): Promise<Timing> {
    let clientMs = 0;
    let redisMs = 0;
    let count = 0;
    for (; clientMs < BATCH_MS; count++) {
      await prepare();
      const before = await this.#busyMs();
      const startMs = performance.now();
      await work();
      clientMs += performance.now() - startMs;
      redisMs += (await this.#busyMs()) - before;
    }
    return { clientMs: clientMs / count, redisMs: redisMs / count };
  }

  async stop(): Promise<void> {
    this.#redis.disconnect();
    await this.#server.stop();
  }

  /** Time that Redis has spent in scripts. */
  async #busyMs(): Promise<number> {
    const stats = await this.#redis.info('commandstats');
    let busyUs = 0;
    for (const [, us] of stats.matchAll(/cmdstat_eval(?:sha)?:calls=\d+,usec=(\d+)/g)) busyUs += Number(us);
    return busyUs / 1000;
  }
}

function namesOf(seed: string, count: number): PageName[] {
  return Array.from({ length: count }, (_, i) => hash('sha256', `${seed}/${i}`, 'binary').slice(0, 16) as PageName);
}

function page(name: PageName): DirectoryEntry {
  return { kind: 'page', name, tier: 'device', size: 64 << 11, value: 10 };
}
