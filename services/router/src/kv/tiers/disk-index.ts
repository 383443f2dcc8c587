import type { BlobKey } from '../blob.ts';
import { blobKey } from '../blob.ts';
import type { StoredBlob } from './blob-store.ts';
import type { FoundFile } from './disk-folder.ts';
import { GreedyDual } from './greedy-dual.ts';

/** A file that takes room. */
export interface DiskFile {
  readonly path: string;
  /** Room that it takes. */
  readonly bytes: number;
  /** It is gone, and its bytes are accounted for. */
  freed: boolean;
}

export interface DiskEntry extends DiskFile {
  /** Null for another model's blob: it takes room, and is never read. */
  readonly key: BlobKey | null;
  readonly blob: Pick<StoredBlob, 'kind' | 'name'> | null;
  /** What the header says; null until it was read. */
  stored: StoredBlob | null;
  /** Place among the files that were there at the start, from 0 for the oldest to 1. */
  readonly recency: number;
  mtimeMs: number;
  /** It is being removed: that it cannot be read is no fault. */
  leaving: boolean;
}

/** Ranks of files whose value is not known: far below any value by size. */
const LAST = Number.MIN_VALUE * 2 ** 40;

/** Which blobs are on disk, and in which order they go. */
export class DiskIndex {
  readonly #entries = new Map<BlobKey, DiskEntry>();
  readonly #order = new GreedyDual<DiskEntry>();
  readonly #count = { page: 0, state: 0 };
  readonly #isLeased: (blob: Pick<StoredBlob, 'kind' | 'name'>) => boolean;
  #knownValue = 0;
  #knownBytes = 0;

  /** `isLeased` says which blobs are not to be evicted now. */
  constructor(isLeased: (blob: Pick<StoredBlob, 'kind' | 'name'>) => boolean) {
    this.#isLeased = isLeased;
  }

  get counts(): { readonly page: number; readonly state: number } {
    return this.#count;
  }

  get(key: BlobKey): DiskEntry | undefined {
    return this.#entries.get(key);
  }

  /** Priority of a blob that comes now. */
  priority(blob: StoredBlob): number {
    return this.#order.priority(density(blob));
  }

  add(path: string, blob: StoredBlob, bytes: number, nowMs: number): void {
    const key = blobKey(blob.kind, blob.name);
    const { kind, name, size, value } = blob;
    const stored = { kind, name, size, value };
    const entry = { key, blob: stored, stored, path, bytes, recency: 0, mtimeMs: nowMs, freed: false, leaving: false };
    this.#insert(entry, density(blob), 0);
  }

  /**
   * Adds what lies in the folder; returns the new entries. Their headers are not known, so that the oldest goes first:
   * other models' before the own ones.
   */
  addFound(files: FoundFile[], roomOf: (bytes: number) => number): DiskEntry[] {
    files.sort((a, b) => a.mtimeMs - b.mtimeMs);
    return files.map(({ path, blob, bytes, mtimeMs }, i) => {
      const recency = i / files.length;
      const key = blob && blobKey(blob.kind, blob.name);
      const file = { path, bytes: roomOf(bytes), mtimeMs, freed: false, leaving: false };
      const entry = { ...file, key, blob, stored: null, recency };
      this.#insert(entry, 0, (blob === null ? recency - 1 : recency) * LAST);
      return entry;
    });
  }

  /** The header of a found file is known. Its recency counts as much as the mean value of a byte. */
  learn(entry: DiskEntry, stored: StoredBlob): void {
    if (entry.stored !== null || !this.has(entry)) return;
    entry.stored = stored;
    this.#knownValue += stored.value;
    this.#knownBytes += stored.size;
    this.#order.add(entry, density(stored), (entry.recency * this.#knownValue) / Math.max(1, this.#knownBytes));
  }

  /** True until the entry was removed. */
  has(entry: DiskEntry): boolean {
    return entry.key !== null && this.#entries.get(entry.key) === entry;
  }

  touch(entry: DiskEntry): void {
    this.#order.touch(entry);
  }

  /** Takes entries out of the order that free `bytes`, if they rank below `priority`; they stay in the index. */
  victims(bytes: number, priority: number): DiskEntry[] | null {
    const victims = this.#order.evict(
      bytes,
      priority,
      (entry) => entry.bytes,
      ({ key, blob }) => key !== null && blob !== null && this.#isLeased(blob),
    );
    for (const entry of victims ?? []) entry.leaving = true;
    return victims;
  }

  /** Puts a victim back that could not be removed. */
  spare(entry: DiskEntry): void {
    entry.leaving = false;
    if (entry.key === null) this.#order.add(entry, 0, -LAST);
    else if (this.has(entry)) this.#order.add(entry, entry.stored === null ? 0 : density(entry.stored));
  }

  /** False where it was removed before. */
  remove(entry: DiskEntry): boolean {
    this.#order.delete(entry);
    if (entry.key === null || !this.has(entry)) return false;
    this.#entries.delete(entry.key);
    if (entry.blob !== null) this.#count[entry.blob.kind] -= 1;
    return true;
  }

  *stored(): Iterable<StoredBlob> {
    for (const { stored } of this.#entries.values()) if (stored !== null) yield stored;
  }

  #insert(entry: DiskEntry, bytesValue: number, headStart: number): void {
    this.#order.add(entry, bytesValue, headStart);
    if (entry.key === null || entry.blob === null) return;
    this.#entries.set(entry.key, entry);
    this.#count[entry.blob.kind] += 1;
  }
}

function density(blob: StoredBlob): number {
  return blob.value / Math.max(1, blob.size);
}
