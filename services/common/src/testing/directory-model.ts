import type { PageName } from '../kv/page-names.ts';
import { type DirectoryEntry, type EntryKey, entryKey, type EntryTier } from '../redis/directory-codec.ts';
import type {
  DirectoryOwner,
  EvictAnswer,
  FenceResult,
  HolderPrefix,
  PageLease,
  PublishAnswer,
} from '../redis/page-directory.ts';

const TIERS: readonly EntryTier[] = ['device', 'host', 'disk'];

/** A call and what Redis answered. */
export type Observed =
  | { op: 'fence'; router: string; incarnation: bigint; born: number; answer: FenceResult }
  | { op: 'publish'; owner: DirectoryOwner; added: DirectoryEntry[]; removed: EntryKey[]; answer: PublishAnswer }
  | { op: 'evict'; owner: DirectoryOwner; entries: EntryKey[]; answer: EvictAnswer }
  | { op: 'lease'; holder: string; entries: EntryKey[]; brief: boolean; answer: PageLease }
  | { op: 'release'; lease: PageLease; answer: boolean }
  | { op: 'forget'; owner: DirectoryOwner; answer: boolean }
  | { op: 'lookup'; names: PageName[]; stateless: boolean; answer: HolderPrefix[] }
  /** A holder's lease ended. */
  | { op: 'expire'; router: string }
  /** Redis lost its data. */
  | { op: 'lose' };

interface Holder {
  fence: number;
  entries: Map<string, EntryTier>;
}

const idOf = (lease: PageLease): string => lease.ids.map((id) => id.toString('hex')).join();
const keyOf = ({ kind, name }: EntryKey): string => entryKey(kind, name);

/**
 * The directory as maps. `accepts` says whether an answer is the one that the directory gives in this state, and goes to
 * the state behind the call.
 */
export class DirectoryModel {
  #holders = new Map<string, Holder>();
  /** Who owned a router's entries last. */
  #owners = new Map<string, { incarnation: bigint; born: number }>();
  /** Holder, lease, entries. */
  #leases = new Map<string, Map<string, Set<string>>>();
  #lastFence = 0;

  clone(): DirectoryModel {
    const copy = new DirectoryModel();
    for (const [router, { fence, entries }] of this.#holders)
      copy.#holders.set(router, { fence, entries: new Map(entries) });
    copy.#owners = new Map(this.#owners);
    for (const [router, leases] of this.#leases)
      copy.#leases.set(router, new Map([...leases].map(([id, keys]) => [id, new Set(keys)])));
    copy.#lastFence = this.#lastFence;
    return copy;
  }

  /** Equal for equal states. */
  text(): string {
    const sorted = <V>(map: Map<string, V>, value: (v: V) => unknown): unknown =>
      [...map].map(([key, v]) => [key, value(v)]).sort(([a], [b]) => (String(a) < String(b) ? -1 : 1));
    return JSON.stringify([
      sorted(this.#holders, ({ fence, entries }) => [fence, sorted(entries, (tier) => tier)]),
      sorted(this.#owners, ({ incarnation, born }) => [String(incarnation), born]),
      sorted(this.#leases, (leases) => sorted(leases, (keys) => [...keys].sort())),
      this.#lastFence,
    ]);
  }

  accepts(call: Observed): boolean {
    switch (call.op) {
      case 'fence':
        return this.#fence(call);
      case 'publish':
        return this.#publish(call);
      case 'evict':
        return this.#evict(call);
      case 'lease':
        return this.#lease(call);
      case 'release':
        return this.#release(call);
      case 'forget':
        return this.#forget(call);
      case 'lookup':
        return JSON.stringify(this.#lookup(call.names, call.stateless)) === JSON.stringify(call.answer);
      case 'expire':
        this.#holders.delete(call.router);
        return true;
      case 'lose':
        this.#holders.clear();
        this.#owners.clear();
        this.#leases.clear();
        return true;
    }
  }

  #fence({ router, incarnation, born, answer }: Observed & { op: 'fence' }): boolean {
    const last = this.#owners.get(router);
    const same = last?.incarnation === incarnation;
    if (last !== undefined && !same && born > 0 && born < last.born) return answer.status === 'replaced';
    if (answer.status !== 'ok') return false;
    const { owner } = answer;
    const first = same ? last.born : born === 0 ? owner.fence : born;
    if (owner.fence <= this.#lastFence || owner.born !== first) return false;
    this.#lastFence = owner.fence;
    this.#owners.set(router, { incarnation, born: first });
    this.#holders.set(router, { fence: owner.fence, entries: new Map() });
    if (!same) this.#leases.delete(router);
    return true;
  }

  #holder(owner: DirectoryOwner): Holder | 'unknown' | 'fenced' {
    const holder = this.#holders.get(owner.router);
    if (holder === undefined) return 'unknown';
    return holder.fence === owner.fence ? holder : 'fenced';
  }

  #publish({ owner, added, removed, answer }: Observed & { op: 'publish' }): boolean {
    const holder = this.#holder(owner);
    if (typeof holder === 'string') return answer.status === holder;
    for (const entry of added) holder.entries.set(keyOf(entry), entry.tier);
    for (const entry of removed) holder.entries.delete(keyOf(entry));
    if (answer.status !== 'ok' || answer.full) return false;
    const told = (answer.leases?.leases ?? []).map(({ entries }) => entries.map(keyOf).sort().join()).sort();
    const known = [...(this.#leases.get(owner.router)?.values() ?? [])].map((keys) => [...keys].sort().join()).sort();
    return JSON.stringify(told) === JSON.stringify(known);
  }

  #evict({ owner, entries, answer }: Observed & { op: 'evict' }): boolean {
    const holder = this.#holder(owner);
    if (typeof holder === 'string') return answer.status === holder;
    const leased = new Set([...(this.#leases.get(owner.router)?.values() ?? [])].flatMap((keys) => [...keys]));
    const kept = entries.map(keyOf).filter((key) => leased.has(key));
    for (const entry of entries) if (!leased.has(keyOf(entry))) holder.entries.delete(keyOf(entry));
    return answer.status === 'ok' && JSON.stringify(answer.leased.map(keyOf)) === JSON.stringify(kept);
  }

  #lease({ holder: router, entries, brief, answer }: Observed & { op: 'lease' }): boolean {
    const has = this.#holders.get(router)?.entries;
    const there = entries.map((entry) => has?.has(keyOf(entry)) ?? false);
    const keys = entries.map(keyOf).filter((_, i) => there[i]);
    if (keys.length > 0 && !brief) {
      const leases = this.#leases.get(router) ?? new Map<string, Set<string>>();
      this.#leases.set(router, leases.set(idOf(answer), new Set(keys)));
    }
    return JSON.stringify(there) === JSON.stringify(answer.there);
  }

  #release({ lease, answer }: Observed & { op: 'release' }): boolean {
    return (this.#leases.get(lease.holder)?.delete(idOf(lease)) ?? false) === answer;
  }

  #forget({ owner, answer }: Observed & { op: 'forget' }): boolean {
    const mine = typeof this.#holder(owner) !== 'string';
    if (mine) {
      this.#holders.delete(owner.router);
      this.#leases.delete(owner.router);
    }
    return mine === answer;
  }

  /** For prompts of up to 64 pages, where the directory looks at every one. */
  #lookup(names: readonly PageName[], stateless: boolean): HolderPrefix[] {
    const found: HolderPrefix[] = [];
    for (const [router, { fence, entries }] of [...this.#holders].sort(([a], [b]) => (a < b ? -1 : 1))) {
      const tierOf = (kind: 'page' | 'state', i: number): EntryTier | undefined =>
        entries.get(entryKey(kind, names[i] as PageName));
      let pages = 0;
      while (pages < names.length && tierOf('page', pages) !== undefined) pages += 1;
      if (pages === 0) continue;
      const worst = (count: number, from = -1): number =>
        Math.max(from, ...names.slice(0, count).map((_, i) => TIERS.indexOf(tierOf('page', i) as EntryTier)));
      let resume = pages;
      while (!stateless && resume > 0 && tierOf('state', resume - 1) === undefined) resume -= 1;
      const state = stateless || resume === 0 ? -1 : TIERS.indexOf(tierOf('state', resume - 1) as EntryTier);
      found.push({
        router,
        fence,
        pages,
        tier: TIERS[worst(pages)] ?? null,
        resumePages: resume,
        resumeTier: resume === 0 ? null : (TIERS[worst(resume, state)] ?? null),
      });
    }
    return found;
  }
}
