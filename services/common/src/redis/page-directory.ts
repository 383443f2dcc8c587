import { randomBytes } from 'node:crypto';
import type { Redis } from 'ioredis';
import type { Clock } from '../clock.ts';
import { fail, isGuildhallError } from '../errors.ts';
import { type PageName, packNames } from '../kv/page-names.ts';
import {
  type DirectoryEntry,
  type EntryKey,
  type EntryTier,
  fartherTier,
  packEntries,
  packKeys,
  tierOf,
  unpackKeys,
} from './directory-codec.ts';
import type { RedisKeys } from './keys.ts';
import { LEASE_MS } from './member-lease.ts';
import { runScript } from './scripts.ts';

/** Entries of one script call at most, so that none keeps Redis for more than a few milliseconds. */
export const ENTRIES_PER_CALL = 1024;
/** Names that one script call looks up at most: a context of 262,144 tokens in pages of 64. */
export const NAMES_PER_CALL = 4096;
/** Lookups that may wait for Redis at a time; more fail at once. */
const MAX_LOOKUPS = 64;
/** For how long Redis remembers which process was a router last. */
const KEEP_OWNER_MS = 86_400_000;
const LEASE_ID_BYTES = 8;
/** Longest lease, milliseconds: a puller that died must not pin what it asked for much longer. */
const MAX_LEASE_MS = 60_000;

/** Proof of who owns a router's entries; writes carry it. */
export interface DirectoryOwner {
  router: string;
  incarnation: bigint;
  /** Grows with every fence of any router, also when Redis has lost its data. */
  fence: number;
  /** First fence of this incarnation: among processes with the same id the one with the largest owns the entries. */
  born: number;
}

export type FenceResult =
  | { status: 'ok'; owner: DirectoryOwner }
  /** A later process has become this router. */
  | { status: 'replaced' };

/**
 * Why a write was not made: `unknown` when the lease ended or Redis lost its data, `fenced` when another process has
 * fenced. Either way the writer fences again, which says whether it was replaced, and publishes all it has.
 */
export type Refusal = { status: 'unknown' } | { status: 'fenced' };

/** What others have pinned of a holder's entries. */
export interface Leases {
  /** Changes with every lease and release. */
  version: string;
  leases: readonly { leftMs: number; entries: EntryKey[] }[];
}

export type PublishAnswer =
  | {
      status: 'ok';
      /** Redis has no memory for some of what was to be added; removals were made. */
      full: boolean;
      /** Null when they are as known. */
      leases: Leases | null;
    }
  | Refusal;

/** A lease on entries of a holder; its ids are its own, so that a late release never ends somebody else's. */
export interface PageLease {
  holder: string;
  /** One for each script call. */
  ids: readonly Buffer[];
  /** For each entry asked for whether the holder has it. */
  there: readonly boolean[];
}

export type EvictAnswer =
  /** Entries that others have leased: they stay listed and must be kept. */
  { status: 'ok'; leased: EntryKey[] } | Refusal;

/** What one holder has of a prompt. A hint: who pulls it checks every byte. */
export interface HolderPrefix {
  router: string;
  fence: number;
  /** Leading pages of the prompt that it has, 1 or more. Beyond the first 64 a hole of a few pages may be overlooked. */
  pages: number;
  /** Worst tier among them. */
  tier: EntryTier | null;
  /** Pages in front of the deepest point that can be resumed from; 0 for none. */
  resumePages: number;
  /** Worst tier among those pages and the state behind them; null without a resume point. */
  resumeTier: EntryTier | null;
}

export interface LookupOptions {
  /** The model has no recurrent state: every page's end can be resumed from. */
  stateless: boolean;
  timeoutMs: number;
}

export interface PageDirectoryOptions {
  redis: Redis;
  keys: RedisKeys;
  clock: Clock;
  /** Expiry of a holder's entries without renewal. */
  leaseMs?: number;
}

/** True when Redis refused a write because its memory is full. */
export function isRedisFull(err: unknown): boolean {
  return isGuildhallError(err) && err.code === 'redis_unavailable' && /\bOOM\b/.test(err.message);
}

/**
 * The directory of pages and states in Redis: which router has what. Every method is one script call, or one for each
 * batch of a large argument, and throws `redis_unavailable` only.
 */
export class PageDirectory {
  readonly #redis: Redis;
  readonly #keys: RedisKeys;
  readonly #clock: Clock;
  readonly #leaseMs: number;
  #lookups = 0;

  constructor(options: PageDirectoryOptions) {
    this.#redis = options.redis;
    this.#keys = options.keys;
    this.#clock = options.clock;
    this.#leaseMs = options.leaseMs ?? LEASE_MS;
  }

  /**
   * Makes a process the owner of a router's entries, and forgets all that was listed. `born` is that of the process's
   * earlier fence, if it had one.
   */
  async fence(router: string, incarnation: bigint, born = 0): Promise<FenceResult> {
    const keys = this.#keys;
    const [fence, first] = (await runScript(
      this.#redis,
      'pages-fence',
      [keys.pages(router), keys.pageLeases(router), keys.pageHolders, keys.pageFence, keys.pageOwner(router)],
      [router, String(incarnation), born, this.#leaseMs, KEEP_OWNER_MS],
    )) as [Buffer, Buffer];
    if (String(fence) === '0') return { status: 'replaced' };
    return { status: 'ok', owner: { router, incarnation, fence: Number(String(fence)), born: Number(String(first)) } };
  }

  /**
   * Adds, replaces and removes entries, each in one of the two lists at most, and renews the lease. `leaseVersion` is
   * what the caller knows of its entries' leases ('' for nothing). When a batch is refused, the rest is not sent.
   */
  async publish(
    owner: DirectoryOwner,
    changes: { added: readonly DirectoryEntry[]; removed: readonly EntryKey[] },
    leaseVersion = '',
  ): Promise<PublishAnswer> {
    const { added, removed } = changes;
    const most = Math.max(added.length, removed.length, 1);
    let leases: Leases | null = null;
    let full = false;
    for (let at = 0; at < most; at += ENTRIES_PER_CALL) {
      const answer = (await runScript(this.#redis, 'pages-publish', this.#holder(owner.router), [
        owner.fence,
        this.#leaseMs,
        leases?.version ?? leaseVersion,
        packKeys(removed.slice(at, at + ENTRIES_PER_CALL)),
        packEntries(full ? [] : added.slice(at, at + ENTRIES_PER_CALL)),
      ])) as [number, Buffer, ...(number | Buffer)[]];
      const [status, version, ...pairs] = answer;
      const refusal = refused(status);
      if (refusal !== null) return refusal;
      full ||= status === 2;
      if (String(version) !== (leases?.version ?? leaseVersion)) leases = parseLeases(String(version), pairs);
    }
    return { status: 'ok', full, leases };
  }

  /** Renews the lease of a holder's entries. */
  renew(owner: DirectoryOwner, leaseVersion = ''): Promise<PublishAnswer> {
    return this.publish(owner, { added: [], removed: [] }, leaseVersion);
  }

  /** Takes entries off the list, all but those that are leased. The owner asks before it drops their last copy. */
  async evict(owner: DirectoryOwner, entries: readonly EntryKey[]): Promise<EvictAnswer> {
    const leased: EntryKey[] = [];
    for (let at = 0; at < entries.length; at += ENTRIES_PER_CALL) {
      const part = packKeys(entries.slice(at, at + ENTRIES_PER_CALL));
      const args = [owner.fence, this.#leaseMs, part];
      const [status, kept] = (await runScript(this.#redis, 'pages-evict', this.#holder(owner.router), args)) as [
        number,
        Buffer,
      ];
      const refusal = refused(status);
      if (refusal !== null) return refusal;
      leased.push(...unpackKeys(kept));
    }
    return { status: 'ok', leased };
  }

  /**
   * Pins entries of a holder for `ttlMs` (a minute at most). Says for each whether the holder has it. A hint as well: a
   * holder may lose what is leased.
   */
  async lease(holder: string, entries: readonly EntryKey[], ttlMs: number): Promise<PageLease> {
    const there: boolean[] = [];
    const ids: Buffer[] = [];
    const forMs = Math.max(1, Math.round(Math.min(ttlMs, MAX_LEASE_MS)));
    for (let at = 0; at < entries.length; at += ENTRIES_PER_CALL) {
      const id = randomBytes(LEASE_ID_BYTES);
      const args = [id, forMs, packKeys(entries.slice(at, at + ENTRIES_PER_CALL))];
      const answer = (await runScript(this.#redis, 'pages-lease', this.#holder(holder), args)) as Buffer;
      ids.push(id);
      for (const byte of answer) there.push(byte === 0x31);
    }
    return { holder, ids, there };
  }

  /** Ends a lease; false when there was none any more. */
  async release(lease: PageLease): Promise<boolean> {
    const { holder, ids } = lease;
    if (ids.length === 0) return false;
    const args = [ids.length, Buffer.concat(ids)];
    return Number(await runScript(this.#redis, 'pages-release', [this.#keys.pageLeases(holder)], args)) > 0;
  }

  /** Takes a router that leaves off the list; false when another process owns its entries. */
  async forget(owner: DirectoryOwner): Promise<boolean> {
    const keys = [...this.#holder(owner.router), this.#keys.pageHolders];
    return Number(await runScript(this.#redis, 'pages-forget', keys, [owner.router, owner.fence])) === 1;
  }

  /**
   * What each live holder has of a prompt whose pages have these names, in order; sorted by router, holders without its
   * first page left out. One round trip for `NAMES_PER_CALL` names, and more only while some holder has all of those before.
   */
  async lookup(names: readonly PageName[], options: LookupOptions): Promise<HolderPrefix[]> {
    if (names.length === 0) return [];
    if (this.#lookups >= MAX_LOOKUPS) throw fail('redis_unavailable', 'Redis: too many lookups wait for it');
    this.#lookups += 1;
    const late = Promise.withResolvers<never>();
    const timer = this.#clock.setTimer(options.timeoutMs, () =>
      late.reject(fail('redis_unavailable', `Redis: a lookup took longer than ${options.timeoutMs} ms`)),
    );
    const found = this.#lookup(names, options.stateless).finally(() => {
      this.#lookups -= 1;
      timer.cancel();
    });
    return await Promise.race([found, late.promise]);
  }

  async #lookup(names: readonly PageName[], stateless: boolean): Promise<HolderPrefix[]> {
    const found = new Map<string, HolderPrefix>();
    for (let at = 0; at < names.length; at += NAMES_PER_CALL) {
      const part = names.slice(at, at + NAMES_PER_CALL);
      const answer = await this.#lookupPart(part, stateless);
      for (const next of answer) {
        const before = found.get(next.router);
        if (at === 0) found.set(next.router, next);
        else if (before?.pages === at && before.fence === next.fence) found.set(next.router, joined(before, next));
      }
      if (!answer.some(({ router }) => found.get(router)?.pages === at + part.length)) break;
    }
    return [...found.values()].sort((a, b) => (a.router < b.router ? -1 : 1));
  }

  async #lookupPart(names: readonly PageName[], stateless: boolean): Promise<HolderPrefix[]> {
    const { pageHolders, pagesPrefix } = this.#keys;
    const args = [pagesPrefix, stateless ? 1 : 0, packNames(names)];
    const flat = (await runScript(this.#redis, 'pages-lookup', [pageHolders], args)) as (Buffer | number)[];
    const found: HolderPrefix[] = [];
    for (let i = 0; i + 5 < flat.length; i += 6) {
      const [router, fence, pages, tier, resumePages, resumeTier] = flat.slice(i, i + 6);
      found.push({
        router: String(router),
        fence: Number(String(fence)),
        pages: Number(pages),
        tier: tierOf(Number(tier)),
        resumePages: Number(resumePages),
        resumeTier: tierOf(Number(resumeTier)),
      });
    }
    return found;
  }

  #holder(router: string): [string, string] {
    return [this.#keys.pages(router), this.#keys.pageLeases(router)];
  }
}

function parseLeases(version: string, pairs: readonly (number | Buffer)[]): Leases {
  const leases: Leases['leases'][number][] = [];
  for (let i = 0; i + 1 < pairs.length; i += 2)
    leases.push({ leftMs: Number(pairs[i]), entries: unpackKeys(pairs[i + 1] as Buffer) });
  return { version, leases };
}

function refused(status: number): Refusal | null {
  if (status > 0) return null;
  return { status: status === 0 ? 'unknown' : 'fenced' };
}

/** A holder that has all of one part of the names and some of the next one. */
function joined(before: HolderPrefix, next: HolderPrefix): HolderPrefix {
  const deeper = next.resumePages > 0;
  return {
    ...next,
    pages: before.pages + next.pages,
    tier: fartherTier(before.tier, next.tier),
    resumePages: deeper ? before.pages + next.resumePages : before.resumePages,
    resumeTier: deeper ? fartherTier(before.tier, next.resumeTier) : before.resumeTier,
  };
}
