import {
  type Clock,
  type DirectoryOwner,
  type EntryKey,
  entryKey,
  ENTRIES_PER_CALL,
  errorMessage,
  fail,
  isRedisFull,
  type Leases,
  type Logger,
  type Metrics,
  type PageDirectory,
  RENEW_MS,
  type Timer,
} from '@guildhall/common';
import type { BlobKind, CacheFault, Tier } from './blob.ts';
import { type Batch, DirectoryTable, type PublishedInfo } from './directory-table.ts';

export interface DirectoryPublisherOptions {
  directory: PageDirectory;
  router: string;
  incarnation: bigint;
  clock: Clock;
  logger: Logger;
  metrics: Metrics;
  /** All that this router has: asked for once, after the first fence; from then on its changes are followed. */
  entries: () => Iterable<PublishedInfo & { tier: Tier }>;
  /** A later process has become this router; nothing is published any more. */
  onReplaced: (err: Error) => void;
  /** Told of each attempt that failed. */
  onFault: (kind: CacheFault & 'redis', detail: string) => void;
  /** From a change to its publication, while nothing else was published lately. */
  flushMs?: number;
  /** Between two publications at least. */
  spacingMs?: number;
  renewMs?: number;
  /** Waiting after Redis had no room for entries. */
  fullMs?: number;
  /** Entries that are listed at most. */
  maxEntries?: number;
}

const FLUSH_MS = 50;
const SPACING_MS = 500;
const FULL_MS = 10_000;
/** 16 million tokens in pages of 64. Redis needs about 100 bytes for each, and deletes them at once when the lease ends. */
const MAX_ENTRIES = 262_144;
const AWAY_MS = 500;

type State = 'idle' | 'up' | 'away' | 'replaced' | 'closed';

/**
 * Keeps what this router has listed in the directory: follows its tiers, gathers changes into few calls, renews the lease
 * and starts over when the lease ended, Redis lost its data or was away. No method throws or waits for Redis but `evict`,
 * `flush` and `close`.
 */
export class DirectoryPublisher {
  readonly #o: DirectoryPublisherOptions;
  readonly #table: DirectoryTable;
  /** End of the last lease of each leased entry, monotonic. */
  #leased = new Map<string, number>();
  #leaseVersion = '';
  #owner: DirectoryOwner | null = null;
  #born = 0;
  #state: State = 'idle';
  #full = false;
  #running: Promise<void> | null = null;
  #timer: Timer | null = null;
  #timerAtMs = 0;
  #lastMs = -Infinity;
  #retryAtMs = 0;

  constructor(options: DirectoryPublisherOptions) {
    this.#o = options;
    this.#table = new DirectoryTable(options.maxEntries ?? MAX_ENTRIES);
  }

  /** `up` while Redis answers. */
  get state(): State {
    return this.#state;
  }

  /** Fences in the background. Changes before that are not needed: `entries` is asked. */
  start(): void {
    if (this.#state !== 'idle') return;
    this.#state = 'up';
    this.#schedule(0);
  }

  /** A blob can be had from `tier` from now on. */
  added(tier: Tier, info: PublishedInfo): void {
    this.#table.add(tier, info);
    this.#changed();
  }

  /** A blob is no longer in `tier`. */
  removed(tier: Tier, kind: BlobKind, name: EntryKey['name']): void {
    this.#table.remove(tier, kind, name);
    this.#changed();
  }

  /** Whether another router has leased an entry, as of the last publication or renewal. */
  isLeased(kind: BlobKind, name: EntryKey['name']): boolean {
    const endMs = this.#leased.get(entryKey(kind, name));
    return endMs !== undefined && endMs > this.#o.clock.monotonicMs();
  }

  /**
   * Asked before the last copies of entries are dropped: takes them off the list and returns those that are leased and
   * should be kept. While Redis is away those are leased that were when it was last seen.
   */
  async evict(keys: readonly EntryKey[]): Promise<EntryKey[]> {
    const known = (): EntryKey[] => keys.filter(({ kind, name }) => this.isLeased(kind, name));
    const owner = this.#owner;
    if (owner === null || this.#state !== 'up') return known();
    try {
      const answer = await this.#o.directory.evict(owner, keys);
      if (answer.status !== 'ok') {
        this.#fenceAgain(owner);
        return known();
      }
      const kept = new Set(answer.leased.map(({ kind, name }) => entryKey(kind, name)));
      for (const key of keys) if (!kept.has(entryKey(key.kind, key.name))) this.#table.evicted(key);
      return answer.leased;
    } catch (err) {
      this.#away(err);
      return known();
    }
  }

  /** Renews now, which also brings the leases: for instance because another router begins to fetch. */
  poke(): void {
    if (this.#state === 'up') this.#schedule(0);
  }

  /** Resolves when all changes so far are published, or cannot be for now. */
  async flush(): Promise<void> {
    await this.#running;
    while (this.#state === 'up' && (this.#owner === null || this.#table.pending > 0)) await this.#run();
  }

  /** Takes this router off the list. */
  async close(): Promise<void> {
    if (this.#state === 'closed') return;
    const reachable = this.#state === 'up';
    this.#state = 'closed';
    this.#timer?.cancel();
    await this.#running;
    const owner = this.#owner;
    this.#owner = null;
    if (owner === null || !reachable) return;
    try {
      await this.#o.directory.forget(owner);
    } catch (err) {
      this.#o.logger.debug({ reason: errorMessage(err) }, 'pages stay in the directory until their lease ends');
    }
  }

  #changed(): void {
    if (this.#state !== 'up' || this.#running !== null || this.#table.pending === 0) return;
    const { clock, flushMs = FLUSH_MS, spacingMs = SPACING_MS } = this.#o;
    const nowMs = clock.monotonicMs();
    this.#schedule(Math.max(flushMs, this.#lastMs + spacingMs - nowMs));
  }

  /** Runs after `ms`, or earlier if that was planned. */
  #schedule(ms: number): void {
    if (this.#state === 'replaced' || this.#state === 'closed') return;
    const atMs = this.#o.clock.monotonicMs() + ms;
    if (this.#timer !== null && this.#timerAtMs <= atMs) return;
    this.#timer?.cancel();
    this.#timerAtMs = atMs;
    this.#timer = this.#o.clock.setTimer(ms, () => void this.#run());
  }

  /** One step at a time; a step never throws. */
  #run(): Promise<void> {
    this.#running ??= this.#step().finally(() => {
      this.#running = null;
      this.#plan();
    });
    return this.#running;
  }

  /** When the next step is due. */
  #plan(): void {
    this.#timer?.cancel();
    this.#timer = null;
    const { clock, renewMs = RENEW_MS, fullMs = FULL_MS, spacingMs = SPACING_MS } = this.#o;
    if (this.#state === 'away') return this.#schedule(this.#full ? fullMs : AWAY_MS);
    if (this.#owner === null || this.#table.pending >= ENTRIES_PER_CALL) return this.#schedule(0);
    if (this.#table.pending > 0) return this.#schedule(Math.max(0, this.#lastMs + spacingMs - clock.monotonicMs()));
    this.#schedule(renewMs);
  }

  async #step(): Promise<void> {
    if (this.#state === 'replaced' || this.#state === 'closed') return;
    const { clock, directory } = this.#o;
    const nowMs = clock.monotonicMs();
    let batch: Batch | null = null;
    try {
      const owner = this.#owner ?? (await this.#fence());
      if (owner === null) return;
      this.#retryWaiting(nowMs);
      batch = this.#table.take(ENTRIES_PER_CALL);
      if (batch.before.size > 0) this.#lastMs = nowMs;
      const answer = await directory.publish(owner, batch, this.#leaseVersion);
      this.#back();
      if (answer.status !== 'ok') {
        this.#table.failed(batch);
        return this.#fenceAgain(owner);
      }
      this.#confirm(batch, answer.full);
      if (answer.leases !== null) this.#setLeases(answer.leases);
    } catch (err) {
      if (batch !== null) this.#table.failed(batch);
      this.#away(err);
    } finally {
      this.#setGauges();
    }
  }

  #retryWaiting(nowMs: number): void {
    if (this.#table.waiting === 0 || nowMs < this.#retryAtMs) return;
    this.#retryAtMs = nowMs + (this.#o.fullMs ?? FULL_MS);
    this.#table.retry();
  }

  async #fence(): Promise<DirectoryOwner | null> {
    const { directory, router, incarnation, entries, logger, onReplaced } = this.#o;
    const result = await directory.fence(router, incarnation, this.#born);
    if (result.status === 'replaced') {
      if (this.#state === 'closed') return null;
      this.#state = 'replaced';
      logger.error('another process has become this router; its pages are no longer listed');
      onReplaced(fail('id_in_use', `another process has become router/${router}`, { field: 'id' }));
      return null;
    }
    if (this.#born === 0) this.#table.reset(entries());
    else this.#table.unlist();
    this.#owner = result.owner;
    this.#born = result.owner.born;
    return result.owner;
  }

  /** `refused` owns the entries no longer. */
  #fenceAgain(refused: DirectoryOwner): void {
    if (this.#owner !== refused) return;
    this.#owner = null;
    this.#schedule(0);
  }

  #confirm(batch: Batch, full: boolean): void {
    const { clock, metrics, logger, onFault, fullMs = FULL_MS } = this.#o;
    const refused = this.#table.confirm(batch, full);
    const added = batch.added.length - refused;
    if (added > 0) metrics.count('guildhall_directory_changes_total', { change: 'added' }, added);
    if (batch.removed.length > 0)
      metrics.count('guildhall_directory_changes_total', { change: 'removed' }, batch.removed.length);
    if (full) {
      this.#retryAtMs = clock.monotonicMs() + fullMs;
      onFault('redis', 'Redis is out of memory');
      if (!this.#full) logger.warn('Redis is out of memory; new pages are not listed in the directory for now');
      this.#full = true;
    } else if (added > 0) {
      if (this.#full) logger.info('Redis has room again; pages are listed');
      this.#full = false;
    }
  }

  #setLeases({ version, leases }: Leases): void {
    const nowMs = this.#o.clock.monotonicMs();
    this.#leaseVersion = version;
    this.#leased = new Map();
    for (const { leftMs, entries } of leases) {
      for (const { kind, name } of entries) {
        const key = entryKey(kind, name);
        this.#leased.set(key, Math.max(this.#leased.get(key) ?? 0, nowMs + leftMs));
      }
    }
  }

  #away(err: unknown): void {
    const reason = errorMessage(err);
    this.#full = isRedisFull(err);
    if (this.#state !== 'up' && this.#state !== 'away') return;
    this.#o.onFault('redis', reason);
    if (this.#state === 'up') this.#o.logger.warn({ reason }, 'pages cannot be listed in the directory for now');
    this.#state = 'away';
  }

  #back(): void {
    if (this.#state !== 'away') return;
    this.#state = 'up';
    this.#o.logger.info('pages are listed in the directory again');
  }

  #setGauges(): void {
    const { metrics } = this.#o;
    const { listed, pending, waiting } = this.#table;
    for (const [state, entries] of Object.entries({ listed, pending, waiting }))
      metrics.gauge('guildhall_directory_entries', entries, { state });
  }
}
