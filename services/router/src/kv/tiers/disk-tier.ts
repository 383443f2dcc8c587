import type { Clock, PageName } from '@guildhall/common';
import { type Blob, type BlobKey, blobKey, type BlobKind } from '../blob.ts';
import type { BlobStoreObserver, Checksum, StoredBlob, TierUsage } from './blob-store.ts';
import { DiskFolder, type DiskSpace, type FileOps, nodeFiles } from './disk-folder.ts';
import { DiskHealth } from './disk-health.ts';
import { type DiskEntry, DiskIndex } from './disk-index.ts';
import { DiskLane, Gate } from './disk-lane.ts';
import { type BadRead, DiskReader } from './disk-reader.ts';
import { DiskWriter, roomOf } from './disk-writer.ts';
import { HeldFiles } from './held-files.ts';
import { fileBytes } from './page-file.ts';

export interface DiskTierOptions {
  path: string;
  capacityBytes: number;
  /** Memory of blobs that wait to be written. */
  queueBytes: number;
  space: DiskSpace;
  checksum: Checksum;
  observer: BlobStoreObserver;
  clock: Clock;
  /** Blobs that are not to be evicted now. */
  isLeased: (blob: Pick<StoredBlob, 'kind' | 'name'>) => boolean;
  files?: FileOps | undefined;
}

interface PendingWrite {
  blob: Blob;
  cancelled: boolean;
}

/** With the lane that writes they leave one of libuv's four threads to the rest of the process. */
const READS = 2;
/** Pauses between reads of headers at the start, so that they don't disturb steps. */
const HEADERS_AT_A_TIME = 8;
const HEADER_PAUSE_MS = 2;

/** Blobs in files, up to a limit of bytes, and held bytes beside them. */
export class DiskTier {
  readonly #o: DiskTierOptions;
  readonly #folder: DiskFolder;
  readonly #index: DiskIndex;
  readonly #lane: DiskLane;
  readonly #health: DiskHealth;
  readonly #reader: DiskReader;
  readonly #writer: DiskWriter;
  readonly #held: HeldFiles;
  readonly #pending = new Map<BlobKey, PendingWrite>();
  readonly #abort = new AbortController();
  /** Resolves when it is known what was in the folder. */
  readonly scanned: Promise<void>;
  /** Resolves when all headers were read. */
  readonly learned: Promise<void>;

  private constructor(options: DiskTierOptions, folder: DiskFolder) {
    const { clock, observer, checksum, queueBytes, capacityBytes, files = nodeFiles } = options;
    this.#o = options;
    this.#folder = folder;
    this.#index = new DiskIndex(options.isLeased);
    this.#lane = new DiskLane(queueBytes, (err) => observer.fault('disk_error', String(err)));
    this.#health = new DiskHealth(clock, observer);
    this.#reader = new DiskReader({ files, space: folder.space, checksum, clock, gate: new Gate(READS) });
    this.#writer = new DiskWriter({
      folder,
      files,
      checksum,
      capacityBytes,
      health: this.#health,
      victims: (bytes, priority) => this.#index.victims(bytes, priority),
      evicted: (entry) => this.#remove(entry, 'evicted'),
      spared: (entry) => this.#index.spare(entry),
    });
    this.#held = new HeldFiles({
      folder,
      observer,
      lane: this.#lane,
      health: this.#health,
      writer: this.#writer,
      reader: this.#reader,
      queueBytes,
    });
    const found: DiskEntry[] = [];
    this.scanned = this.#lane.urgent(async () => void found.push(...(await this.#scan())));
    this.learned = this.scanned.then(() => this.#learn(found));
  }

  /** Errors: `config_invalid` where the path is no folder or another process's; those of the file system. */
  static async open(options: DiskTierOptions): Promise<DiskTier> {
    return new DiskTier(options, await DiskFolder.open(options.path, options.space, options.clock, options.files));
  }

  has(key: BlobKey): boolean {
    return this.#index.get(key) !== undefined;
  }

  /** Bytes of a blob; of its file while that is all that is known; 0 where there is none. */
  sizeOf(key: BlobKey): number {
    const entry = this.#index.get(key);
    return entry?.stored?.size ?? entry?.bytes ?? 0;
  }

  /** A blob that waits to be written. */
  pending(key: BlobKey): Blob | null {
    return this.#pending.get(key)?.blob ?? null;
  }

  /** True where reading a blob is faster than computing it. */
  isWorth(blob: StoredBlob): boolean {
    return blob.value > this.#reader.predictMs(blob.size);
  }

  /** True if the blob can wait to be written without another being given up. */
  hasRoomFor(blob: Blob): boolean {
    const waiting = this.#lane.backgroundBytes;
    return this.#health.writable && (waiting === 0 || waiting + blob.size <= this.#o.queueBytes);
  }

  /** Writes a blob later. False where that can be told to be in vain. */
  write(blob: Blob): boolean {
    const key = blobKey(blob.kind, blob.name);
    if (this.has(key) || this.#pending.has(key)) return true;
    const job: PendingWrite = { blob, cancelled: false };
    const drop = (): void => this.#settle(job, 'dropped');
    const room = this.#o.capacityBytes - this.#writer.heldBytes;
    if (this.#abort.signal.aborted || !this.#health.writable || roomOfBlob(blob) > room) {
      drop();
      return false;
    }
    this.#pending.set(key, job);
    this.#lane.background({ bytes: blob.size, run: () => this.#store(job), drop });
    return this.#pending.get(key) === job;
  }

  /** A blob from its file, checked; null after a fault. */
  async read(key: BlobKey): Promise<Blob | null> {
    const entry = this.#index.get(key);
    if (entry === undefined || entry.blob === null) return null;
    this.#index.touch(entry);
    const result = await this.#reader.read(entry, entry.blob);
    if (result === null) return null;
    if ('fault' in result) {
      this.#onBadFile(entry, result);
      return null;
    }
    const { kind } = entry.blob;
    this.#learnt(entry, { ...result, kind });
    return { ...result, kind };
  }

  touch(key: BlobKey): void {
    const entry = this.#index.get(key);
    if (entry !== undefined) this.#index.touch(entry);
  }

  delete(key: BlobKey): void {
    const job = this.#pending.get(key);
    if (job !== undefined) {
      job.cancelled = true;
      this.#pending.delete(key);
    }
    const entry = this.#index.get(key);
    if (entry !== undefined) this.#discard(entry, 'deleted');
  }

  hold(key: BlobKey, data: Uint8Array, checksum: number): Promise<boolean> {
    if (this.#abort.signal.aborted) return Promise.resolve(false);
    return this.#held.hold(key, data, checksum);
  }

  held(key: BlobKey): Promise<Uint8Array | null> {
    return this.#held.read(key);
  }

  release(key: BlobKey): void {
    this.#held.release(key);
  }

  usage(): TierUsage {
    return {
      tier: 'disk',
      capacityBytes: this.#o.capacityBytes,
      usedBytes: this.#writer.usedBytes,
      heldBytes: this.#writer.heldBytes,
      pendingBytes: this.#lane.backgroundBytes + this.#held.pendingBytes,
      pages: this.#index.counts.page,
      states: this.#index.counts.state,
    };
  }

  stored(): Iterable<StoredBlob> {
    return this.#index.stored();
  }

  /** Resolves when nothing waits to be written. */
  idle(): Promise<void> {
    return this.#lane.idle();
  }

  async close(): Promise<void> {
    this.#abort.abort();
    this.#lane.dropAll();
    this.#held.releaseAll();
    await this.learned;
    await this.#lane.idle();
    this.#folder.close();
  }

  async #scan(): Promise<DiskEntry[]> {
    const entries = this.#index.addFound(await this.#folder.scan(this.#abort.signal), roomOf);
    for (const { bytes } of entries) this.#writer.count(bytes);
    // The limit may be smaller than last time.
    await this.#writer.makeRoom(0, Infinity);
    return entries.filter((entry) => this.#index.has(entry));
  }

  async #learn(entries: DiskEntry[]): Promise<void> {
    const { clock } = this.#o;
    const { signal } = this.#abort;
    for (const [i, entry] of entries.entries()) {
      if (i % HEADERS_AT_A_TIME === HEADERS_AT_A_TIME - 1)
        await clock.sleep(HEADER_PAUSE_MS, signal).catch(() => undefined);
      if (signal.aborted) return;
      if (entry.blob === null || entry.stored !== null || !this.#index.has(entry)) continue;
      const result = await this.#reader.readHeader(entry, entry.blob);
      if ('fault' in result) this.#onBadFile(entry, result);
      else this.#learnt(entry, { ...result, kind: entry.blob.kind });
    }
  }

  #learnt(entry: DiskEntry, { kind, name, size, value }: StoredBlob): void {
    if (entry.stored !== null || !this.#index.has(entry)) return;
    this.#index.learn(entry, { kind, name, size, value });
    this.#o.observer.added('disk', { kind, name, size, value });
  }

  async #store(job: PendingWrite): Promise<void> {
    if (job.cancelled) return;
    const { blob } = job;
    const bytes = roomOfBlob(blob);
    // What was waiting when the disk failed does not try again.
    if (!this.#health.writable || !(await this.#writer.makeRoom(bytes, this.#index.priority(blob)))) {
      this.#settle(job, 'dropped');
      return;
    }
    const path = this.#folder.pathOf(blob.kind, blob.name);
    if (!(await this.#writer.write(path, { info: blob, data: blob.data }, bytes))) {
      this.#lane.dropAll();
      this.#settle(job, 'failed');
    } else if (job.cancelled) {
      await this.#writer.free({ path, bytes, freed: false });
    } else {
      this.#index.add(path, blob, bytes, this.#o.clock.nowMs());
      this.#settle(job, 'written');
      this.#o.observer.added('disk', blob);
    }
  }

  #settle(job: PendingWrite, outcome: 'written' | 'dropped' | 'failed'): void {
    if (job.cancelled) return;
    const { kind, name, size } = job.blob;
    const key = blobKey(kind, name);
    if (this.#pending.get(key) === job) this.#pending.delete(key);
    this.#o.observer.writeBack(outcome, size);
  }

  /** The file says something wrong, or cannot be read. */
  #onBadFile(entry: DiskEntry, { fault, detail, keep }: BadRead): void {
    // It may have been removed while it was read.
    if (entry.leaving || !this.#index.has(entry)) return;
    this.#o.observer.fault(fault, `${entry.path}: ${detail}`);
    if (!keep) this.#discard(entry, 'fault');
  }

  #discard(entry: DiskEntry, reason: 'fault' | 'deleted'): void {
    this.#remove(entry, reason);
    void this.#lane.urgent(async () => void (await this.#writer.free(entry)));
  }

  #remove(entry: DiskEntry, reason: 'evicted' | 'fault' | 'deleted'): void {
    const { blob } = entry;
    if (this.#index.remove(entry) && blob !== null) this.#o.observer.removed('disk', blob.kind, blob.name, reason);
  }
}

function roomOfBlob({ tokens, size }: { kind: BlobKind; name: PageName; tokens: Int32Array; size: number }): number {
  return roomOf(fileBytes(tokens.length, size));
}
