import { hash } from 'node:crypto';
import fs from 'node:fs/promises';
import { join } from 'node:path';
import {
  type Clock,
  fail,
  type FileLock,
  isLocalHolder,
  lockFile,
  NAME_BYTES,
  nameToHex,
  type PageName,
  tryLockFile,
} from '@guildhall/common';
import type { BlobKind } from '../blob.ts';
import type { FileSpace } from './page-file.ts';

/** File operations of the disk tier; tests make them slow or let them fail. */
export type FileOps = Pick<typeof fs, 'open' | 'rename' | 'unlink' | 'mkdir' | 'readdir' | 'stat' | 'rmdir'>;

/** The process's own file system. */
export const nodeFiles: FileOps = fs;

/** What all files of a folder's part have in common: the model and its numerics class. */
export interface DiskSpace {
  fingerprint: string;
  numericsId: string;
}

/** A file of a blob, as its name and size say. */
export interface FoundFile {
  path: string;
  /** Null for files of another model or class. */
  blob: { kind: BlobKind; name: PageName } | null;
  bytes: number;
  mtimeMs: number;
}

const LOCK = 'guildhall-kv.lock';
const SPACE_DIR = /^kv-[0-9a-f]{32}$/;
const FAN_DIR = /^[0-9a-f]{2}$/;
const BLOB_FILE = /^([0-9a-f]{32})\.(page|state)$/;
const HELD_DIR = 'held';
const HELD_FILE = /^\d+\.held$/;
const TEMPORARY = /^([0-9a-f]{32}\.(page|state)|\d+\.held)\.\d+\.tmp$/;
/** More than it takes to know that a process elsewhere is dead. */
const LOCK_WAIT_MS = 65_000;
/** Prompts can be read out of pages: nobody else may. */
const DIR_MODE = 0o700;

/**
 * Layout of the folder of a disk tier, and its lock:
 *
 *   guildhall-kv.lock
 *   kv-<model and class, 32 hex digits>/<first 2 digits of the name>/<name, 32 hex digits>.page or .state
 *   kv-.../held/<number>.held
 *
 * Files that are not called so are not the tier's, and left alone.
 */
export class DiskFolder {
  readonly space: FileSpace;
  readonly #files: FileOps;
  readonly #root: string;
  readonly #own: string;
  readonly #lock: FileLock;
  readonly #made = new Set<string>();
  #lastTemporary = 0;
  #lastHeld = 0;

  private constructor(root: string, space: DiskSpace, lock: FileLock, files: FileOps) {
    const id = JSON.stringify(['guildhall-kv-disk', space.fingerprint, space.numericsId]);
    this.space = hash('sha256', id, 'binary').slice(0, NAME_BYTES);
    this.#root = root;
    this.#own = join(root, `kv-${Buffer.from(this.space, 'latin1').toString('hex')}`);
    this.#lock = lock;
    this.#files = files;
  }

  /**
   * Makes the folder where there is none, and locks it. It waits a minute for a holder that it cannot see, such as that
   * of the container that this one replaces. Errors: `config_invalid` where it is no folder or another process has it;
   * those of the file system.
   */
  static async open(root: string, space: DiskSpace, clock: Clock, files: FileOps = nodeFiles): Promise<DiskFolder> {
    try {
      await files.mkdir(root, { recursive: true, mode: DIR_MODE });
    } catch (err) {
      const { code } = err as NodeJS.ErrnoException;
      if (code !== 'EEXIST' && code !== 'ENOTDIR') throw err;
      throw fail('config_invalid', `--kv-disk ${root} is not a folder`, { field: 'kvDisk', cause: err });
    }
    return new DiskFolder(root, space, await lockFolder(root, clock), files);
  }

  pathOf(kind: BlobKind, name: PageName): string {
    const hex = nameToHex(name);
    return join(this.#own, hex.slice(0, 2), `${hex}.${kind}`);
  }

  /** A path that no other held bytes have. */
  nextHeldPath(): string {
    this.#lastHeld += 1;
    return join(this.#own, HELD_DIR, `${this.#lastHeld}.held`);
  }

  /** Where a file is written before it gets its name. */
  temporaryPath(path: string): string {
    this.#lastTemporary += 1;
    return `${path}.${this.#lastTemporary}.tmp`;
  }

  /** Makes the folder of a file. */
  async makeDirOf(path: string): Promise<void> {
    const dir = join(path, '..');
    if (this.#made.has(dir)) return;
    await this.#files.mkdir(dir, { recursive: true, mode: DIR_MODE });
    this.#made.add(dir);
  }

  /** Somebody removed a folder of ours. */
  forgetDirOf(path: string): void {
    this.#made.delete(join(path, '..'));
  }

  /**
   * All blobs in the folder, those of other models too. Removes temporary files and held bytes: their process is dead.
   * Errors: those of the file system, for the folder itself; parts that cannot be read are left out.
   */
  async scan(signal: AbortSignal): Promise<FoundFile[]> {
    const found: FoundFile[] = [];
    for (const name of await this.#files.readdir(this.#root)) {
      if (!SPACE_DIR.test(name)) continue;
      const dir = join(this.#root, name);
      const before = found.length;
      for (const part of await this.#list(dir)) {
        if (signal.aborted) return found;
        if (part === HELD_DIR) await this.#clearHeld(join(dir, part));
        else if (FAN_DIR.test(part)) await this.#scanPart(join(dir, part), dir === this.#own, found);
      }
      // What another model left behind, once it is empty.
      if (dir !== this.#own && found.length === before) await this.#quietly(() => this.#files.rmdir(dir));
    }
    return found;
  }

  close(): void {
    try {
      this.#lock.release();
    } catch {
      // On a disk that became read-only the file stays; it is known to be dead by its process.
    }
  }

  async #scanPart(dir: string, own: boolean, found: FoundFile[]): Promise<void> {
    const names = await this.#list(dir);
    let kept = 0;
    for (const name of names) {
      const path = join(dir, name);
      if (TEMPORARY.test(name)) await this.#quietly(() => this.#files.unlink(path));
      else kept += 1;
      const [, hex, kind] = BLOB_FILE.exec(name) ?? [];
      if (hex === undefined) continue;
      const stat = await this.#quietly(() => this.#files.stat(path));
      if (stat === null || !stat.isFile()) continue;
      const blob = { kind: kind as BlobKind, name: Buffer.from(hex, 'hex').toString('latin1') as PageName };
      found.push({ path, blob: own ? blob : null, bytes: stat.size, mtimeMs: stat.mtimeMs });
    }
    if (!own && kept === 0) await this.#quietly(() => this.#files.rmdir(dir));
  }

  async #clearHeld(dir: string): Promise<void> {
    for (const name of await this.#list(dir)) {
      if (HELD_FILE.test(name) || TEMPORARY.test(name)) await this.#quietly(() => this.#files.unlink(join(dir, name)));
    }
    await this.#quietly(() => this.#files.rmdir(dir));
  }

  async #list(dir: string): Promise<string[]> {
    return (await this.#quietly(() => this.#files.readdir(dir))) ?? [];
  }

  async #quietly<T>(work: () => Promise<T>): Promise<T | null> {
    try {
      return await work();
    } catch {
      return null;
    }
  }
}

async function lockFolder(root: string, clock: Clock): Promise<FileLock> {
  const path = join(root, LOCK);
  const lock = tryLockFile(path, clock);
  if ('release' in lock) return lock;
  if (!isLocalHolder(lock)) {
    const limit = new AbortController();
    const timer = clock.setTimer(LOCK_WAIT_MS, () => limit.abort());
    try {
      return await lockFile(path, { clock, signal: limit.signal });
    } catch (err) {
      if (!limit.signal.aborted) throw err;
    } finally {
      timer.cancel();
    }
  }
  const holder = `process ${lock.pid} on ${lock.host}`;
  throw fail('config_invalid', `--kv-disk ${root} is in use by ${holder}: give each router a folder of its own`, {
    field: 'kvDisk',
  });
}
