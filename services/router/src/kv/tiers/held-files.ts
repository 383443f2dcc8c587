import { hash } from 'node:crypto';
import { NAME_BYTES, type PageName } from '@guildhall/common';
import type { BlobKey } from '../blob.ts';
import type { BlobStoreObserver } from './blob-store.ts';
import type { DiskFolder } from './disk-folder.ts';
import type { DiskHealth } from './disk-health.ts';
import type { DiskFile } from './disk-index.ts';
import type { DiskLane } from './disk-lane.ts';
import type { DiskReader } from './disk-reader.ts';
import { type DiskWriter, roomOf } from './disk-writer.ts';
import { fileBytes } from './page-file.ts';

export interface HeldFilesOptions {
  folder: DiskFolder;
  observer: BlobStoreObserver;
  lane: DiskLane;
  health: DiskHealth;
  writer: DiskWriter;
  reader: DiskReader;
  /** Memory of what waits to be written. */
  queueBytes: number;
}

interface HeldFile extends DiskFile {
  name: PageName;
  mtimeMs: number;
  written: boolean;
  released: boolean;
}

/** Bytes of sequences on disk: never evicted, and of no use to another process. */
export class HeldFiles {
  readonly #o: HeldFilesOptions;
  readonly #files = new Map<BlobKey, HeldFile>();
  #pendingBytes = 0;

  constructor(options: HeldFilesOptions) {
    this.#o = options;
  }

  /** Bytes in memory that wait to be written. */
  get pendingBytes(): number {
    return this.#pendingBytes;
  }

  /** Writes bytes before any blob. False where there is no room, the disk fails, or they are released before. */
  async hold(key: BlobKey, data: Uint8Array, checksum: number): Promise<boolean> {
    const { folder, lane, health, queueBytes } = this.#o;
    this.release(key);
    const queueFull = this.#pendingBytes > 0 && this.#pendingBytes + data.length > queueBytes;
    if (queueFull || !health.writable) return false;
    const file: HeldFile = {
      path: folder.nextHeldPath(),
      bytes: roomOf(fileBytes(0, data.length)),
      freed: false,
      name: hash('sha256', key, 'binary').slice(0, NAME_BYTES) as PageName,
      mtimeMs: Infinity,
      written: false,
      released: false,
    };
    this.#files.set(key, file);
    this.#pendingBytes += data.length;
    await lane.urgent(() => this.#write(file, data, checksum));
    this.#pendingBytes -= data.length;
    if (file.written && !file.released) return true;
    if (this.#files.get(key) === file) this.#files.delete(key);
    return false;
  }

  /** Null where nothing is held under the key, or after a fault. */
  async read(key: BlobKey): Promise<Uint8Array | null> {
    const file = this.#files.get(key);
    if (file === undefined || !file.written) return null;
    const result = await this.#o.reader.read(file, { kind: 'held', name: file.name });
    if (!('fault' in result)) return result.data;
    if (this.#files.get(key) === file) {
      this.#o.observer.fault(result.fault, `${file.path}: ${result.detail}`);
      if (!result.keep) this.release(key);
    }
    return null;
  }

  release(key: BlobKey): void {
    const file = this.#files.get(key);
    if (file === undefined) return;
    this.#files.delete(key);
    file.released = true;
    if (file.written) void this.#o.lane.urgent(() => this.#free(file));
  }

  releaseAll(): void {
    for (const key of this.#files.keys()) this.release(key);
  }

  async #write(file: HeldFile, data: Uint8Array, checksum: number): Promise<void> {
    const { writer } = this.#o;
    const { path, bytes, name } = file;
    if (file.released || !(await writer.makeRoom(bytes, Infinity))) return;
    writer.heldBytes += bytes;
    const info = { kind: 'held', name, tokens: new Int32Array(0), size: data.length, checksum, value: 0 } as const;
    file.written = await writer.write(path, { info, data }, bytes);
    if (!file.written) writer.heldBytes -= bytes;
    else if (file.released) await this.#free(file);
  }

  async #free(file: HeldFile): Promise<void> {
    this.#o.writer.heldBytes -= file.bytes;
    await this.#o.writer.free(file);
  }
}
