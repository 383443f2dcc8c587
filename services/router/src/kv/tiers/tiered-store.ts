import { type Clock, fail, isGuildhallError, type PageName, type Timer } from '@guildhall/common';
import { type Blob, type BlobKey, blobKey, type BlobKind } from '../blob.ts';
import type { BlobStore, BlobStoreObserver, Checksum, StoredBlob, TierUsage } from './blob-store.ts';
import type { DiskSpace, FileOps } from './disk-folder.ts';
import { diskFault } from './disk-health.ts';
import { DiskTier } from './disk-tier.ts';
import { HostTier } from './host-tier.ts';

export interface TieredStoreOptions {
  /** Limit of host memory, bytes; 0 for none. */
  hostBytes: number;
  /** Null for no disk. */
  disk: { path: string; capacityBytes: number } | null;
  /** Model and class; blobs on disk of others are not used. */
  space: DiskSpace;
  checksum: Checksum;
  observer: BlobStoreObserver;
  clock: Clock;
  /** Blobs that are not to be evicted now, such as those that another router is about to fetch. */
  isLeased?: (blob: Pick<StoredBlob, 'kind' | 'name'>) => boolean;
  /** Memory of blobs that left host memory and wait to be written; 64 MiB by default. */
  queueBytes?: number;
  files?: FileOps;
}

const QUEUE_BYTES = 64 << 20;
/** A blob that has been in host memory for so long is written to disk before it has to go. */
const WRITE_AFTER_MS = 5000;
const SWEEP_MS = 1000;
const FLUSH_MS = 2000;
const SCAN_MS = 2000;
const READ_LIMIT_MS = 10_000;
/** Loads of one prefetch at a time. */
const PREFETCH_LOADS = 2;

/** Host memory with a disk behind it, either of which may be missing. */
export class TieredStore implements BlobStore {
  readonly #o: TieredStoreOptions;
  readonly #host: HostTier;
  readonly #disk: DiskTier | null;
  readonly #loading = new Map<BlobKey, Promise<Blob | null>>();
  /** Blobs in host memory that may be written to disk, by when they came. */
  readonly #unwritten = new Map<BlobKey, number>();
  readonly #sweep: Timer | null;
  #closed = false;

  private constructor(options: TieredStoreOptions, disk: DiskTier | null) {
    const { hostBytes, observer, clock, isLeased = () => false } = options;
    this.#o = options;
    this.#disk = disk;
    const onEvict = (blob: Blob): void => this.#onEvict(blob);
    this.#host = new HostTier({ capacityBytes: hostBytes, observer, isLeased, onEvict });
    this.#sweep = disk && clock.setInterval(SWEEP_MS, () => this.#writeOld());
  }

  /**
   * Opens the tiers, and waits a moment for the list of what is on disk. A disk that cannot be used is told to the observer and left out. Errors: `config_invalid` where its
   * path is no folder, or another process has it.
   */
  static async open(options: TieredStoreOptions): Promise<TieredStore> {
    const store = new TieredStore(options, await openDisk(options));
    await withinMs(options.clock, SCAN_MS, store.scanned());
    return store;
  }

  /** Resolves when it is known what the disk has. */
  async scanned(): Promise<void> {
    await this.#disk?.scanned;
  }

  /** Resolves when everything that is in the folder was told to the observer. */
  async learned(): Promise<void> {
    await this.#disk?.learned;
  }

  /** Resolves when nothing waits to be written. */
  async idle(): Promise<void> {
    await this.#disk?.idle();
  }

  where(kind: BlobKind, name: PageName): 'host' | 'disk' | null {
    const key = blobKey(kind, name);
    if (this.#host.get(key) !== null || this.#pending(key) !== null) return 'host';
    return this.#disk?.has(key) === true ? 'disk' : null;
  }

  async get(kind: BlobKind, name: PageName): Promise<Blob | null> {
    const key = blobKey(kind, name);
    const blob = this.#host.get(key) ?? this.#pending(key);
    if (blob === null) return this.#inTime(this.#load(key));
    this.touch(kind, name);
    const [crc] = await this.#o.checksum([blob.data]);
    if (crc === blob.checksum) return blob;
    this.#o.observer.fault('checksum', `a ${kind} changed in host memory`);
    this.#unwritten.delete(key);
    this.#host.delete(key, 'fault');
    if (this.#pending(key) !== null) this.#disk?.delete(key);
    return this.#inTime(this.#load(key));
  }

  async prefetch(keys: readonly { kind: BlobKind; name: PageName }[], signal: AbortSignal): Promise<void> {
    const queue = this.#missing(keys).values();
    const load = async (): Promise<void> => {
      for (const key of queue) {
        if (signal.aborted) return;
        await this.#inTime(this.#load(key));
      }
    };
    await Promise.all(Array.from({ length: PREFETCH_LOADS }, load));
  }

  put(blob: Blob): boolean {
    if (blob.data.length !== blob.size) throw fail('internal', `a blob of ${blob.size} bytes has ${blob.data.length}`);
    if (this.#closed) return false;
    const key = blobKey(blob.kind, blob.name);
    const known = this.#host.get(key) !== null;
    if (this.#host.put(blob)) {
      if (!known && this.#disk?.has(key) === false) this.#unwritten.set(key, this.#o.clock.monotonicMs());
      return true;
    }
    return this.#writeBack(blob);
  }

  touch(kind: BlobKind, name: PageName): void {
    const key = blobKey(kind, name);
    this.#host.touch(key);
    this.#disk?.touch(key);
  }

  delete(kind: BlobKind, name: PageName): void {
    const key = blobKey(kind, name);
    this.#unwritten.delete(key);
    this.#host.delete(key, 'deleted');
    this.#disk?.delete(key);
  }

  async hold(key: BlobKey, data: Uint8Array, checksum: number): Promise<boolean> {
    this.release(key);
    if (this.#closed) return false;
    if (this.#host.hold(key, { data, checksum })) return true;
    return (await this.#disk?.hold(key, data, checksum)) ?? false;
  }

  async held(key: BlobKey): Promise<Uint8Array | null> {
    const held = this.#host.held(key);
    if (held === null) return this.#disk === null ? null : await this.#inTime(this.#disk.held(key));
    const [crc] = await this.#o.checksum([held.data]);
    if (crc === held.checksum) return held.data;
    this.#o.observer.fault('checksum', 'bytes of a sequence changed in host memory');
    return null;
  }

  release(key: BlobKey): void {
    this.#host.release(key);
    this.#disk?.release(key);
  }

  usage(): TierUsage[] {
    const usage = [this.#host.usage()];
    if (this.#disk !== null) usage.push(this.#disk.usage());
    return usage;
  }

  *entries(): Iterable<StoredBlob & { tier: 'host' | 'disk' }> {
    for (const { kind, name, size, value } of this.#host.blobs()) yield { kind, name, size, value, tier: 'host' };
    for (const stored of this.#disk?.stored() ?? []) {
      if (this.#host.get(blobKey(stored.kind, stored.name)) === null) yield { ...stored, tier: 'disk' };
    }
  }

  async close(flushMs = FLUSH_MS): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#sweep?.cancel();
    if (this.#disk === null) return;
    const stop = new AbortController();
    await withinMs(this.#o.clock, flushMs, this.#flush(this.#disk, stop.signal));
    stop.abort();
    await this.#disk.close();
  }

  /** Writes what waits already, then what is in host memory, best first. */
  async #flush(disk: DiskTier, signal: AbortSignal): Promise<void> {
    await disk.idle();
    for (const blob of this.#host.ranking()) {
      if (signal.aborted) return;
      if (this.#writeBack(blob)) await disk.idle();
    }
  }

  /** What a disk that hangs does not give in time counts as not there: whoever waits for it holds pages meanwhile. */
  async #inTime<T>(read: Promise<T | null>): Promise<T | null> {
    const late = Promise.withResolvers<null>();
    const timer = this.#o.clock.setTimer(READ_LIMIT_MS, () => {
      this.#o.observer.fault('stalled', `the disk has not answered a read for ${READ_LIMIT_MS} ms`);
      late.resolve(null);
    });
    try {
      return await Promise.race([read, late.promise]);
    } finally {
      timer.cancel();
    }
  }

  #pending(key: BlobKey): Blob | null {
    return this.#disk?.pending(key) ?? null;
  }

  /** From disk to host memory; once for all who want it. */
  #load(key: BlobKey): Promise<Blob | null> {
    const disk = this.#disk;
    if (disk === null) return Promise.resolve(null);
    const running = this.#loading.get(key);
    if (running !== undefined) return running;
    const load = disk.read(key).then((blob) => {
      this.#loading.delete(key);
      // It may have been deleted meanwhile; whoever asked before still gets it.
      if (blob !== null && disk.has(key) && !this.#closed) this.#host.put(blob);
      return blob;
    });
    this.#loading.set(key, load);
    return load;
  }

  /** What a prefetch is to load: what is on disk only, as much as host memory can hold beside the rest of the keys. */
  #missing(keys: readonly { kind: BlobKind; name: PageName }[]): BlobKey[] {
    let room = this.#host.roomForBlobs;
    const missing = new Set<BlobKey>();
    for (const { kind, name } of keys) {
      const key = blobKey(kind, name);
      const here = this.#host.get(key);
      if (here === null && this.where(kind, name) !== 'disk') continue;
      room -= here?.size ?? this.#disk?.sizeOf(key) ?? 0;
      if (room < 0) break;
      if (here === null) missing.add(key);
      else this.touch(kind, name);
    }
    return [...missing];
  }

  #onEvict(blob: Blob): void {
    this.#unwritten.delete(blobKey(blob.kind, blob.name));
    this.#writeBack(blob);
  }

  /** True if the blob is on disk, or will be. */
  #writeBack(blob: Blob): boolean {
    const disk = this.#disk;
    if (disk === null) return false;
    return disk.has(blobKey(blob.kind, blob.name)) || (disk.isWorth(blob) && disk.write(blob));
  }

  /** Writes what has been in host memory for a while, when there is nothing better to write. */
  #writeOld(): void {
    const disk = this.#disk;
    const untilMs = this.#o.clock.monotonicMs() - WRITE_AFTER_MS;
    for (const [key, sinceMs] of this.#unwritten) {
      const blob = this.#host.get(key);
      if (blob !== null && (sinceMs > untilMs || disk?.hasRoomFor(blob) !== true)) return;
      this.#unwritten.delete(key);
      if (blob !== null) this.#writeBack(blob);
    }
  }
}

/** Waits for `work`, or for `ms`. */
async function withinMs(clock: Clock, ms: number, work: Promise<void>): Promise<void> {
  const over = Promise.withResolvers<void>();
  const timer = clock.setTimer(ms, over.resolve);
  await Promise.race([work, over.promise]);
  timer.cancel();
}

async function openDisk(options: TieredStoreOptions): Promise<DiskTier | null> {
  const { disk, queueBytes = QUEUE_BYTES, space, checksum, observer, clock, isLeased = () => false, files } = options;
  if (disk === null) return null;
  try {
    return await DiskTier.open({ ...disk, queueBytes, space, checksum, observer, clock, isLeased, files });
  } catch (err) {
    if (isGuildhallError(err)) throw err;
    observer.fault(diskFault(err), `--kv-disk ${disk.path} cannot be used, so there is no disk tier: ${String(err)}`);
    return null;
  }
}
