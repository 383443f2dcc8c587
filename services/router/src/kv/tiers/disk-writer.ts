import type { BlobInfo } from '../blob.ts';
import type { Checksum } from './blob-store.ts';
import type { DiskFolder, FileOps } from './disk-folder.ts';
import type { DiskHealth } from './disk-health.ts';
import type { DiskEntry, DiskFile } from './disk-index.ts';
import { type FileKind, writePageFile } from './page-file.ts';

export interface DiskWriterOptions {
  folder: DiskFolder;
  files: FileOps;
  checksum: Checksum;
  capacityBytes: number;
  health: DiskHealth;
  /** Entries to remove for `bytes` of something of this priority; null where they are worth more. */
  victims(bytes: number, priority: number): DiskEntry[] | null;
  evicted(entry: DiskEntry): void;
  /** A victim that could not be removed. */
  spared(entry: DiskEntry): void;
}

const BLOCK = 4096;
const FILE_MODE = 0o600;

/** Room that a file of `bytes` takes: whole blocks. */
export function roomOf(bytes: number): number {
  return Math.ceil(bytes / BLOCK) * BLOCK;
}

/**
 * Writes and removes files of the tier and keeps account of their bytes. Not for several calls at a time: they are jobs of
 * one lane.
 */
export class DiskWriter {
  readonly #o: DiskWriterOptions;
  /** Files that nobody refers to and that could not be removed. */
  readonly #stuck = new Set<DiskFile>();
  #usedBytes = 0;
  heldBytes = 0;

  constructor(options: DiskWriterOptions) {
    this.#o = options;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Counts a file that was there before. */
  count(bytes: number): void {
    this.#usedBytes += bytes;
  }

  /** Evicts what is worth less than `priority` until there are `bytes` of room. */
  async makeRoom(bytes: number, priority: number): Promise<boolean> {
    const { capacityBytes, health } = this.#o;
    for (const file of this.#stuck) if (!(await this.free(file))) return false;
    const limit = Math.min(capacityBytes, health.ceilingBytes);
    if (bytes > limit - this.heldBytes) return false;
    const victims = this.#o.victims(this.#usedBytes + bytes - limit, priority);
    if (victims === null) return false;
    for (const [i, entry] of victims.entries()) {
      if (!(await this.#unlink(entry))) {
        for (const spared of victims.slice(i)) this.#o.spared(spared);
        return false;
      }
      this.#o.evicted(entry);
    }
    return true;
  }

  /** Writes a file under a temporary name, then gives it its own. False after a fault. */
  async write(
    path: string,
    content: { info: Omit<BlobInfo, 'kind'> & { kind: FileKind }; data: Uint8Array },
    bytes: number,
  ): Promise<boolean> {
    const { folder, files, health } = this.#o;
    const temporary = folder.temporaryPath(path);
    this.#usedBytes += bytes;
    try {
      await folder.makeDirOf(path);
      await this.#writeNew(temporary, content);
      await files.rename(temporary, path);
      health.written();
      return true;
    } catch (err) {
      folder.forgetDirOf(path);
      await files.unlink(temporary).catch(() => undefined);
      this.#usedBytes -= bytes;
      health.failed(err, `writing ${path}`, this.#usedBytes);
      return false;
    }
  }

  /** Removes a file that nobody refers to; tried again later where it fails now. */
  async free(file: DiskFile): Promise<boolean> {
    const done = await this.#unlink(file);
    if (done) this.#stuck.delete(file);
    else this.#stuck.add(file);
    return done;
  }

  async #writeNew(path: string, content: Parameters<DiskWriter['write']>[1]): Promise<void> {
    const { files, folder, checksum } = this.#o;
    const file = await files.open(path, 'wx', FILE_MODE);
    try {
      // No fsync: what a power failure tears is found by its checksum, and costs a miss.
      await writePageFile(file, content, folder.space, checksum);
    } finally {
      await file.close();
    }
  }

  async #unlink(file: DiskFile): Promise<boolean> {
    if (file.freed) return true;
    try {
      await this.#o.files.unlink(file.path);
    } catch (err) {
      if ((err as NodeJS.ErrnoException).code !== 'ENOENT') {
        this.#o.health.failed(err, `removing ${file.path}`, this.#usedBytes);
        return false;
      }
    }
    file.freed = true;
    this.#usedBytes -= file.bytes;
    return true;
  }
}
