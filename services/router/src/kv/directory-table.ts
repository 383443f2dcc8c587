import { type DirectoryEntry, type EntryKey, entryKey, type EntryTier } from '@guildhall/common';
import type { BlobInfo, Tier } from './blob.ts';

/** What the directory is told of a blob. */
export type PublishedInfo = Pick<BlobInfo, 'kind' | 'name' | 'size' | 'value'>;

const TIERS: readonly EntryTier[] = ['device', 'host', 'disk'];
/** An attempt to write has failed: nobody knows what Redis has. */
const UNKNOWN = -2;
const NOT_LISTED = -1;

interface Row extends PublishedInfo {
  /** Bit i for TIERS[i]. */
  tiers: number;
  /** Place in TIERS of what Redis has, or NOT_LISTED or UNKNOWN; NOT_LISTED where `round` is not the table's. */
  listed: number;
  round: number;
}

/** Changes of one call. */
export interface Batch {
  added: DirectoryEntry[];
  removed: EntryKey[];
  /** What Redis had of them before. */
  readonly before: Map<string, number>;
}

/**
 * What a router has beside what Redis has of it. Only differences are sent, so that changes that cancel out cost nothing,
 * and an outage costs no more memory than the entries themselves.
 */
export class DirectoryTable {
  readonly #maxEntries: number;
  readonly #rows = new Map<string, Row>();
  readonly #dirty = new Set<string>();
  /** Additions for which Redis had no room. */
  readonly #waiting = new Set<string>();
  /** Walks through #dirty; from its start again once it has come to an end. */
  #cursor: Iterator<string> = [].values();
  /** After a new start: walks through #rows, so that no step takes long. */
  #sweep: Iterator<[string, Row]> | null = null;
  #unswept = 0;
  #round = 0;
  #listed = 0;

  /** At most `maxEntries` are listed at a time. */
  constructor(maxEntries: number) {
    this.#maxEntries = maxEntries;
  }

  get pending(): number {
    return this.#dirty.size + (this.#sweep === null ? 0 : Math.max(1, this.#unswept));
  }

  get waiting(): number {
    return this.#waiting.size;
  }

  /** Entries that Redis has, or may have. */
  get listed(): number {
    return this.#listed;
  }

  add(tier: Tier, { kind, name, size, value }: PublishedInfo): void {
    const place = TIERS.indexOf(tier as EntryTier);
    if (place < 0) return;
    const key = entryKey(kind, name);
    let row = this.#rows.get(key);
    if (row === undefined) {
      row = { kind, name, size, value, tiers: 0, listed: NOT_LISTED, round: this.#round };
      this.#rows.set(key, row);
    }
    row.tiers |= 1 << place;
    row.size = size;
    row.value = value;
    this.#compare(key, row);
  }

  remove(tier: Tier, kind: BlobInfo['kind'], name: BlobInfo['name']): void {
    const place = TIERS.indexOf(tier as EntryTier);
    const key = entryKey(kind, name);
    const row = this.#rows.get(key);
    if (row === undefined || place < 0) return;
    row.tiers &= ~(1 << place);
    this.#compare(key, row);
  }

  /** This router has `entries`, and Redis nothing of it. Takes about 1 us for each. */
  reset(entries: Iterable<PublishedInfo & { tier: Tier }>): void {
    this.#rows.clear();
    this.unlist();
    for (const entry of entries) this.add(entry.tier, entry);
  }

  /** Redis has nothing of this router any more. */
  unlist(): void {
    this.#dirty.clear();
    this.#waiting.clear();
    this.#round += 1;
    this.#listed = 0;
    this.#sweep = this.#rows.entries();
    this.#unswept = this.#rows.size;
  }

  /** Redis dropped an entry that this router is about to drop. */
  evicted(key: EntryKey): void {
    const id = entryKey(key.kind, key.name);
    const row = this.#rows.get(id);
    if (row === undefined) return;
    this.#setListed(row, NOT_LISTED);
    this.#dirty.delete(id);
    this.#waiting.delete(id);
    if (row.tiers === 0) this.#rows.delete(id);
  }

  /** Additions that waited for room are tried again. */
  retry(): void {
    for (const key of this.#waiting) this.#dirty.add(key);
    this.#waiting.clear();
  }

  /** The next changes to send, at most `limit`; `confirm` or `failed` must follow. */
  take(limit: number): Batch {
    const batch: Batch = { added: [], removed: [], before: new Map() };
    for (let key = this.#next(); key !== null; key = this.#next()) {
      this.#dirty.delete(key);
      const row = this.#rows.get(key);
      if (row === undefined) continue;
      const { kind, name, size, value } = row;
      const listed = this.#listedOf(row);
      const tier = TIERS[nearest(row)];
      if (tier !== undefined && listed === NOT_LISTED && this.#listed >= this.#maxEntries) {
        this.#waiting.add(key);
        continue;
      }
      batch.before.set(key, listed);
      if (tier === undefined) batch.removed.push({ kind, name });
      else batch.added.push({ kind, name, tier, size, value });
      this.#setListed(row, UNKNOWN);
      if (batch.before.size >= limit) break;
    }
    return batch;
  }

  /** The batch was written; with `full` only its removals. Returns the number of additions that were not. */
  confirm(batch: Batch, full: boolean): number {
    for (const { kind, name } of batch.removed) this.#settle(entryKey(kind, name), NOT_LISTED);
    for (const { kind, name, tier } of batch.added) {
      const key = entryKey(kind, name);
      if (full) this.#waiting.add(key);
      this.#settle(key, full ? (batch.before.get(key) ?? UNKNOWN) : TIERS.indexOf(tier));
    }
    return full ? batch.added.length : 0;
  }

  /** Nobody knows whether the batch was written. */
  failed(batch: Batch): void {
    for (const key of batch.before.keys()) this.#settle(key, UNKNOWN);
  }

  #settle(key: string, listed: number): void {
    const row = this.#rows.get(key);
    if (row === undefined) return;
    this.#setListed(row, listed);
    this.#compare(key, row);
  }

  /** The next key that may have to be sent. */
  #next(): string | null {
    let next = this.#cursor.next();
    if (next.done === true && this.#dirty.size > 0) {
      this.#cursor = this.#dirty.values();
      next = this.#cursor.next();
    }
    return next.done === true ? this.#nextSwept() : next.value;
  }

  #nextSwept(): string | null {
    for (;;) {
      const next = this.#sweep?.next();
      if (next === undefined || next.done === true) {
        this.#sweep = null;
        return null;
      }
      this.#unswept -= 1;
      const [key, row] = next.value;
      // What was sent or came since the new start is compared already.
      if (row.round === this.#round) continue;
      this.#compare(key, row);
      if (this.#dirty.has(key)) return key;
    }
  }

  #listedOf({ listed, round }: Row): number {
    return round === this.#round ? listed : NOT_LISTED;
  }

  #setListed(row: Row, listed: number): void {
    this.#listed += Number(listed !== NOT_LISTED) - Number(this.#listedOf(row) !== NOT_LISTED);
    row.listed = listed;
    row.round = this.#round;
  }

  /** Notes whether Redis must be told. */
  #compare(key: string, row: Row): void {
    const want = nearest(row);
    const listed = this.#listedOf(row);
    if (want === NOT_LISTED || want === listed) this.#waiting.delete(key);
    if (want === listed) {
      this.#dirty.delete(key);
      if (want === NOT_LISTED) this.#rows.delete(key);
    } else if (!this.#waiting.has(key)) {
      this.#dirty.add(key);
    }
  }
}

/** Place of the nearest tier that has it. */
function nearest({ tiers }: Row): number {
  for (let place = 0; place < TIERS.length; place++) if ((tiers & (1 << place)) !== 0) return place;
  return NOT_LISTED;
}
