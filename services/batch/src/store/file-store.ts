import type { Clock, RedisKeys } from '@guildhall/common';
import { fail, isGuildhallError } from '@guildhall/common';
import type { Redis } from 'ioredis';
import { checkFileId, newFileId, noSuch } from '../ids.ts';
import type { BlobStore } from './blob-store.ts';
import { idsAfter, type PageRequest } from './pages.ts';

/** What is known of a file beside its bytes. */
export interface FileRecord {
  id: string;
  tenant: string;
  filename: string;
  purpose: string;
  bytes: number;
  /** Milliseconds since the Unix epoch; expiresMs 0 for never. */
  createdMs: number;
  expiresMs: number;
}

export interface FileStoreOptions {
  redis: Redis;
  keys: RedisKeys;
  blobs: BlobStore;
  clock: Clock;
  maxFileBytes: number;
  maxFiles: number;
  /** 0 for never. */
  ttlMs: number;
}

export interface NewFile {
  tenant: string;
  filename: string;
  purpose: string;
  /** Null for the store's own. */
  ttlMs: number | null;
}

/** Name of a file's bytes. */
function blobOf(id: string): string {
  return `files/${id}`;
}

/** Files of tenants: bytes in a blob store, the rest in Redis. */
export class FileStore {
  readonly #o: FileStoreOptions;

  constructor(options: FileStoreOptions) {
    this.#o = options;
  }

  /** Stores bytes; they belong to nobody until `add`. @returns id and bytes. Errors: those of the blob store. */
  async store(
    source: AsyncIterable<Uint8Array>,
    id = newFileId(),
    limitBytes = this.#o.maxFileBytes,
  ): Promise<{ id: string; bytes: number }> {
    return { id, bytes: await this.#o.blobs.write(blobOf(id), source, limitBytes) };
  }

  /** Gives stored bytes to a tenant. Doing it twice is doing it once. Throws `rate_limited` when the tenant has too many files. */
  async add({ id, bytes }: { id: string; bytes: number }, file: NewFile): Promise<FileRecord> {
    const { redis, keys, clock, ttlMs, maxFiles } = this.#o;
    if ((await redis.zcard(keys.filesOf(file.tenant))) >= maxFiles)
      throw fail('rate_limited', `there are ${maxFiles} files already; delete some first`, { field: 'file' });
    const createdMs = clock.nowMs();
    const life = file.ttlMs ?? ttlMs;
    const { tenant, filename, purpose } = file;
    const expiresMs = life === 0 ? 0 : createdMs + life;
    const record: FileRecord = { id, tenant, filename, purpose, bytes, createdMs, expiresMs };
    const write = redis.multi().set(keys.file(id), JSON.stringify(record)).zadd(keys.filesOf(tenant), createdMs, id);
    if (expiresMs > 0) write.zadd(keys.filesByExpiry, expiresMs, id);
    await write.exec();
    return record;
  }

  /** The same for bytes that are nobody's otherwise: they are removed when the tenant has no place for them. */
  async addOrDiscard(stored: { id: string; bytes: number }, file: NewFile): Promise<FileRecord> {
    try {
      return await this.add(stored, file);
    } catch (err) {
      // After other errors the record may be there.
      if (isGuildhallError(err)) await this.#o.blobs.remove(blobOf(stored.id));
      throw err;
    }
  }

  /** A tenant's file. Throws `not_found`. */
  async get(tenant: string, id: string, field = 'file_id'): Promise<FileRecord> {
    const record = await this.#find(checkFileId(id, field));
    if (record === null || record.tenant !== tenant) throw noSuch('file', id, field);
    return record;
  }

  read(record: FileRecord): AsyncIterable<Uint8Array> {
    return this.#o.blobs.read(blobOf(record.id));
  }

  /** One page of a tenant's files, of one purpose unless that is ''. */
  async list(tenant: string, page: PageRequest, purpose: string): Promise<{ files: FileRecord[]; hasMore: boolean }> {
    const { redis, keys } = this.#o;
    const files: FileRecord[] = [];
    let { after } = page;
    // Files of another purpose take no place on the page.
    for (;;) {
      const ids = await idsAfter(redis, keys.filesOf(tenant), { ...page, after }, page.limit + 1);
      for (const id of ids) {
        const record = await this.#find(id);
        if (record === null || (purpose !== '' && record.purpose !== purpose)) continue;
        if (files.length === page.limit) return { files, hasMore: true };
        files.push(record);
      }
      if (ids.length <= page.limit) return { files, hasMore: false };
      after = ids.at(-1) ?? '';
    }
  }

  /** Removes bytes that were stored and belong to nobody. */
  async removeUnowned(id: string): Promise<void> {
    if ((await this.#find(id)) === null) await this.#o.blobs.remove(blobOf(id));
  }

  async remove(record: FileRecord): Promise<void> {
    const { redis, keys, blobs } = this.#o;
    await redis
      .multi()
      .del(keys.file(record.id))
      .zrem(keys.filesOf(record.tenant), record.id)
      .zrem(keys.filesByExpiry, record.id)
      .exec();
    await blobs.remove(blobOf(record.id));
  }

  /** Removes what has expired. @returns how many. */
  async sweep(): Promise<number> {
    const { redis, keys, clock } = this.#o;
    const ids = await redis.zrangebyscore(keys.filesByExpiry, 0, clock.nowMs(), 'LIMIT', 0, 1000);
    for (const id of ids) {
      const text = await redis.get(keys.file(id));
      if (text === null) await redis.zrem(keys.filesByExpiry, id);
      else await this.remove(JSON.parse(text) as FileRecord);
    }
    return ids.length;
  }

  async #find(id: string): Promise<FileRecord | null> {
    const text = await this.#o.redis.get(this.#o.keys.file(id));
    if (text === null) return null;
    const record = JSON.parse(text) as FileRecord;
    return record.expiresMs > 0 && record.expiresMs <= this.#o.clock.nowMs() ? null : record;
  }
}
