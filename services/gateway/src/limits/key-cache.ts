import { type ApiKeyStore, type Clock, errorMessage, type Logger, type StoredKey } from '@guildhall/common';

export interface KeyCacheOptions {
  store: Pick<ApiKeyStore, 'read'>;
  clock: Clock;
  logger: Logger;
  /** Age beyond which knowledge is not used while there is a way to renew it, ms. */
  maxAgeMs: number;
}

/** Keys and ids of unknown keys that are remembered at most, each. */
export const MAX_CACHED = 10_000;
/** While Redis has just failed it is not asked again for so long. */
const AWAY_MS = 500;

interface Entry {
  key: StoredKey;
  readAtMs: number;
}

/**
 * What is known of the API keys in Redis. A key that is known goes on to count while Redis is away; ids that are not known are
 * remembered as well, so that who asks for one again and again costs nothing.
 */
export class KeyCache {
  readonly #o: KeyCacheOptions;
  /** In the order of their last use. */
  readonly #known = new Map<string, Entry>();
  /** Monotonic times until which ids count as unknown. */
  readonly #unknown = new Map<string, number>();
  readonly #reads = new Map<string, Promise<StoredKey | null>>();
  #awayUntilMs = -Infinity;

  constructor(options: KeyCacheOptions) {
    this.#o = options;
  }

  /** What can be said without asking Redis; undefined where it has to be asked. */
  peek(id: string): StoredKey | null | undefined {
    const { clock, maxAgeMs } = this.#o;
    const nowMs = clock.monotonicMs();
    const entry = this.#known.get(id);
    if (entry !== undefined) return nowMs - entry.readAtMs <= maxAgeMs ? entry.key : undefined;
    const untilMs = this.#unknown.get(id);
    return untilMs !== undefined && nowMs < untilMs ? null : undefined;
  }

  /** True where a request with this id asks for what is known, though perhaps of long ago. */
  has(id: string): boolean {
    return this.#known.has(id);
  }

  /**
   * The key of this id, null for an unknown one; asked for once however many wait for it. While Redis is away a key is what it was.
   * Throws `redis_unavailable` for one that nothing is known of.
   */
  async resolve(id: string): Promise<StoredKey | null> {
    const peeked = this.peek(id);
    if (peeked !== undefined) {
      this.#touch(id);
      return peeked;
    }
    const { clock, logger } = this.#o;
    const entry = this.#known.get(id);
    // Who is known need not wait for a Redis that has just failed.
    if (entry !== undefined && clock.monotonicMs() < this.#awayUntilMs) return entry.key;
    try {
      return await this.#read(id);
    } catch (err) {
      this.#awayUntilMs = clock.monotonicMs() + AWAY_MS;
      if (entry === undefined) throw err;
      logger.debug({ reason: errorMessage(err), key: id }, 'a key is taken as it was known');
      return entry.key;
    }
  }

  /** A key has changed: what is known of it is read again. */
  changed(id: string): void {
    this.#unknown.delete(id);
    const entry = this.#known.get(id);
    if (entry === undefined) return;
    entry.readAtMs = -Infinity;
    // A read that is under way may have begun before the change.
    this.#reads.delete(id);
    this.resolve(id).catch(() => undefined);
  }

  get size(): number {
    return this.#known.size + this.#unknown.size;
  }

  async #read(id: string): Promise<StoredKey | null> {
    const running = this.#reads.get(id);
    if (running !== undefined) return running;
    const read = this.#fetch(id, () => this.#reads.get(id) === read);
    this.#reads.set(id, read);
    try {
      return await read;
    } finally {
      if (this.#reads.get(id) === read) this.#reads.delete(id);
    }
  }

  async #fetch(id: string, counts: () => boolean): Promise<StoredKey | null> {
    const readAtMs = this.#o.clock.monotonicMs();
    const key = await this.#o.store.read(id);
    if (!counts()) return key;
    this.#known.delete(id);
    this.#unknown.delete(id);
    if (key === null) put(this.#unknown, id, readAtMs + this.#o.maxAgeMs);
    else put(this.#known, id, { key, readAtMs });
    return key;
  }

  #touch(id: string): void {
    const entry = this.#known.get(id);
    if (entry === undefined) return;
    this.#known.delete(id);
    this.#known.set(id, entry);
  }
}

/** Adds the newest entry, and drops the oldest where there are too many. */
function put<T>(map: Map<string, T>, id: string, value: T): void {
  map.set(id, value);
  if (map.size <= MAX_CACHED) return;
  const oldest = map.keys().next();
  if (oldest.done !== true) map.delete(oldest.value);
}
