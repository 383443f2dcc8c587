import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir, open, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { errorMessage, fail, isGuildhallError } from '@guildhall/common';

/** Bytes by name. A name is a path of plain words that this service made up. */
export interface BlobStore {
  /** Stores everything of `source` or nothing. Throws `body_too_large`, `disk_full`. @returns its bytes. */
  write(name: string, source: AsyncIterable<Uint8Array>, limitBytes: number): Promise<number>;
  /** Throws `not_found`, while reading. */
  read(name: string): AsyncIterable<Uint8Array>;
  remove(name: string): Promise<void>;
  /** Removes everything whose name begins with `prefix` and a slash. */
  removeAll(prefix: string): Promise<void>;
}

/** Passes bytes on, as many as are allowed. Throws `body_too_large`. */
export async function* limited(source: AsyncIterable<Uint8Array>, limitBytes: number): AsyncGenerator<Uint8Array> {
  let bytes = 0;
  for await (const chunk of source) {
    bytes += chunk.byteLength;
    if (bytes > limitBytes)
      throw fail('body_too_large', `the file is larger than ${limitBytes} bytes`, { field: 'file' });
    yield chunk;
  }
}

/** Files in a folder: written beside, flushed to the disk, and renamed into place. */
export class DiskStore implements BlobStore {
  readonly #dir: string;
  #drafts = 0;
  readonly #owner: string;

  /** `owner` tells the drafts of processes apart that share the folder. */
  constructor(dir: string, owner: string) {
    this.#dir = dir;
    this.#owner = owner;
  }

  async write(name: string, source: AsyncIterable<Uint8Array>, limitBytes: number): Promise<number> {
    const path = join(this.#dir, name);
    const draft = join(this.#dir, 'drafts', `${this.#owner}-${++this.#drafts}`);
    try {
      await mkdir(dirname(draft), { recursive: true });
      await mkdir(dirname(path), { recursive: true });
      await pipeline(limited(source, limitBytes), createWriteStream(draft, { flush: true }));
      const file = await open(draft, 'r');
      const { size } = await file.stat();
      await file.close();
      await rename(draft, path);
      await this.#flushFolder(dirname(path));
      return size;
    } catch (err) {
      await rm(draft, { force: true });
      throw storeError(err);
    }
  }

  read(name: string): AsyncIterable<Uint8Array> {
    return readAll(createReadStream(join(this.#dir, name), { highWaterMark: 256 << 10 }));
  }

  async remove(name: string): Promise<void> {
    await rm(join(this.#dir, name), { force: true });
  }

  async removeAll(prefix: string): Promise<void> {
    await rm(join(this.#dir, prefix), { force: true, recursive: true });
  }

  /** A name is there for good only once its folder is on the disk as well. */
  async #flushFolder(path: string): Promise<void> {
    const folder = await open(path, 'r');
    try {
      await folder.sync();
    } finally {
      await folder.close();
    }
  }
}

async function* readAll(stream: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    yield* stream;
  } catch (err) {
    throw storeError(err);
  }
}

function storeError(err: unknown): Error {
  if (isGuildhallError(err)) return err;
  const code = (err as { code?: unknown } | null)?.code;
  if (code === 'ENOSPC' || code === 'EDQUOT') return fail('disk_full', 'there is no room for the file', { cause: err });
  if (code === 'ENOENT') return fail('not_found', 'the content of the file is gone', { cause: err });
  return fail('internal', `the file store failed: ${errorMessage(err)}`, { cause: err });
}
