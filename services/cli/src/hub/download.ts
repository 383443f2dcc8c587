import type { Hash } from 'node:crypto';
import { createHash } from 'node:crypto';
import { mkdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fail } from '@guildhall/common';
import { feedFile, startChecksum } from './checksum.ts';
import { Retryable, withRetries, type OpenResponse } from './http.ts';
import type { HubFile } from './hub-client.ts';
import type { FileSource } from './source.ts';

/** Folder of files that are not complete, below that of the model. */
export const PARTIAL_DIR = '.guildhall-partial';

/** Where files go and who is told. */
export interface DownloadTarget {
  dir: string;
  /** Told of bytes that came, negative where bytes turned out useless. */
  onBytes: (count: number) => void;
}

/**
 * Brings one file here and checks it: goes on from what an earlier attempt left, through broken connections, and puts
 * it in place only when its checksum is right.
 * @throws download_corrupt after two complete copies with a wrong checksum; errors of http.ts; disk_full.
 */
export async function downloadFile(
  client: FileSource,
  commit: string,
  file: HubFile,
  target: DownloadTarget,
): Promise<void> {
  const partial = partialPath(target.dir, file);
  mkdirSync(dirname(partial), { recursive: true });
  for (let copies = 1; ; copies++) {
    const download = new Download(client, commit, file, partial, target);
    try {
      if (await download.run()) break;
    } catch (err) {
      throw diskError(err, partial) ?? err;
    }
    rmSync(partial, { force: true });
    target.onBytes(-file.size);
    // The first wrong copy may be the fault of a resumed one; a whole second one is not.
    if (copies === 2) throw fail('download_corrupt', `${file.path}: its ${file.checksum.algorithm} is wrong`);
    client.context.onRetry?.(`${file.path}: its checksum is wrong; fetching it again`);
  }
  const path = join(target.dir, file.path);
  mkdirSync(dirname(path), { recursive: true });
  renameSync(partial, path);
}

/** Bytes of a file that an earlier pull left. */
export function partialBytes(dir: string, file: HubFile): number {
  const size = statSync(partialPath(dir, file), { throwIfNoEntry: false })?.size ?? 0;
  return size > file.size ? 0 : size;
}

function partialPath(dir: string, file: HubFile): string {
  // The checksum in the name keeps bytes of another commit out.
  const name = createHash('sha256').update(file.path).digest('hex').slice(0, 16);
  return join(dir, PARTIAL_DIR, `${name}-${file.checksum.digest}`);
}

class Download {
  readonly #client: FileSource;
  readonly #commit: string;
  readonly #file: HubFile;
  readonly #partial: string;
  readonly #target: DownloadTarget;
  #hash: Hash;
  #have = 0;

  constructor(client: FileSource, commit: string, file: HubFile, partial: string, target: DownloadTarget) {
    this.#client = client;
    this.#commit = commit;
    this.#file = file;
    this.#partial = partial;
    this.#target = target;
    this.#hash = startChecksum(file);
  }

  /** True when the partial file is complete and right. */
  async run(): Promise<boolean> {
    const { context } = this.#client;
    await this.#takeUp();
    // Not the append mode: Linux would ignore the position that is written to.
    const handle = await open(this.#partial, this.#have === 0 ? 'w' : 'r+');
    try {
      let before = this.#have;
      const attempt = (): Promise<void> => {
        before = this.#have;
        return this.#fetchRest(handle);
      };
      if (this.#have < this.#file.size) {
        await withRetries(context, this.#file.path, attempt, () => this.#have > before);
      }
      await handle.sync();
    } finally {
      await handle.close();
    }
    return this.#hash.digest('hex') === this.#file.checksum.digest;
  }

  async #takeUp(): Promise<void> {
    const left = partialBytes(this.#target.dir, this.#file);
    if (left === 0) return;
    await feedFile(this.#hash, this.#partial, left, this.#client.context.signal);
    this.#have = left;
    this.#target.onBytes(left);
  }

  async #fetchRest(handle: FileHandle): Promise<void> {
    const range = this.#have === 0 ? null : { begin: this.#have, end: null };
    const response = await this.#client.open(this.#commit, this.#file.path, range);
    try {
      await this.#alignTo(response, handle);
      for await (const chunk of response.chunks) {
        const room = this.#file.size - this.#have;
        const bytes = chunk.byteLength > room ? chunk.subarray(0, room) : chunk;
        await writeAll(handle, bytes, this.#have);
        this.#hash.update(bytes);
        this.#have += bytes.byteLength;
        this.#target.onBytes(bytes.byteLength);
        // More than the listing promised: the checksum decides whether what came so far is the file.
        if (bytes.byteLength < chunk.byteLength) return;
      }
    } finally {
      response.close();
    }
    if (this.#have < this.#file.size) throw new Retryable(`it ended after ${this.#have} of ${this.#file.size} bytes`);
  }

  /** Makes the state agree with where the answer begins. */
  async #alignTo(response: OpenResponse, handle: FileHandle): Promise<void> {
    if (response.status === 206 && rangeBegin(response.headers) === this.#have) return;
    if (response.status === 200 || this.#have > 0) await this.#startOver(handle);
    if (response.status !== 200) throw new Retryable(`it answered a part that was not asked for (${response.status})`);
  }

  async #startOver(handle: FileHandle): Promise<void> {
    await handle.truncate(0);
    this.#target.onBytes(-this.#have);
    this.#have = 0;
    this.#hash = startChecksum(this.#file);
  }
}

/** First byte of a `Content-Range: bytes FIRST-LAST/TOTAL`, or null. */
export function rangeBegin(headers: Headers): number | null {
  const first = /^bytes (\d+)-\d+\/(?:\d+|\*)$/.exec(headers.get('content-range') ?? '')?.[1];
  return first === undefined ? null : Number(first);
}

async function writeAll(handle: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.byteLength;) {
    const { bytesWritten } = await handle.write(bytes, done, bytes.byteLength - done, position + done);
    done += bytesWritten;
  }
}

function diskError(err: unknown, path: string): Error | null {
  const code = (err as NodeJS.ErrnoException).code;
  if (code !== 'ENOSPC' && code !== 'EDQUOT') return null;
  return fail('disk_full', `${path}: the disk is full; what has come so far is kept`, { cause: err });
}
