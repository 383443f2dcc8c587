import { createHash } from 'node:crypto';
import { type Clock, fail, isGuildhallError, type RedisKeys } from '@guildhall/common';
import type { Redis } from 'ioredis';
import { checkUploadId, newFileId, newPartId, newUploadId, noSuch } from '../ids.ts';
import type { BlobStore } from './blob-store.ts';
import type { FileRecord, FileStore, NewFile } from './file-store.ts';

/** An upload ends by itself after so long, as OpenAI documents it. */
export const UPLOAD_LIFE_MS = 3_600_000;
/** Largest part. */
export const MAX_PART_BYTES = 64 << 20;
/** Parts that one upload may store. */
export const MAX_PARTS = 10_000;
/** Uploads of one tenant that may be pending. */
export const MAX_PENDING = 1000;
/** What is known of an upload that has ended is kept for so long after its expiry; a completion that takes long ends before that. */
const KEEP_MS = 3_600_000;

export type UploadStatus = 'pending' | 'completed' | 'cancelled' | 'expired';

interface UploadFacts extends NewFile {
  id: string;
  /** What the file will have. */
  bytes: number;
  /** Milliseconds since the Unix epoch. */
  createdMs: number;
  expiresMs: number;
}

export interface Upload extends UploadFacts {
  status: UploadStatus;
  /** Once it is completed. */
  file: FileRecord | null;
}

export interface Part {
  id: string;
  uploadId: string;
  createdMs: number;
}

/** How an upload ends. Whoever writes this first decides it; a completion that was broken off is gone on with. */
type End = { status: 'cancelled' } | { status: 'completed'; fileId: string; partIds: readonly string[] };

interface Stored {
  facts: UploadFacts;
  end: End | null;
  file: FileRecord | null;
}

export interface UploadStoreOptions {
  redis: Redis;
  keys: RedisKeys;
  blobs: BlobStore;
  files: FileStore;
  clock: Clock;
  maxFileBytes: number;
}

function folderOf(id: string): string {
  return `uploads/${id}`;
}

/** Uploads in parts: each part is a blob, and what is known of them is in Redis, so that any process goes on with them. */
export class UploadStore {
  readonly #o: UploadStoreOptions;

  constructor(options: UploadStoreOptions) {
    this.#o = options;
  }

  /** Throws `invalid_value` for a file that is too large, `rate_limited` when too many uploads of the tenant are pending. */
  async create(file: NewFile, bytes: number): Promise<Upload> {
    const { redis, keys, clock, maxFileBytes } = this.#o;
    if (bytes > maxFileBytes)
      throw fail('invalid_value', `bytes: files have at most ${maxFileBytes} bytes`, { field: 'bytes' });
    const createdMs = clock.nowMs();
    const pending = keys.uploadsOf(file.tenant);
    await redis.zremrangebyscore(pending, 0, createdMs);
    if ((await redis.zcard(pending)) >= MAX_PENDING)
      throw fail('rate_limited', `${MAX_PENDING} uploads are pending already; complete or cancel some first`);
    const facts: UploadFacts = { ...file, id: newUploadId(), bytes, createdMs, expiresMs: createdMs + UPLOAD_LIFE_MS };
    const key = keys.upload(facts.id);
    await redis
      .multi()
      .hset(key, { facts: JSON.stringify(facts) })
      .pexpire(key, UPLOAD_LIFE_MS + 2 * KEEP_MS)
      .zadd(pending, facts.expiresMs, facts.id)
      .zadd(keys.uploadsByExpiry, facts.expiresMs + KEEP_MS, facts.id)
      .exec();
    return { ...facts, status: 'pending', file: null };
  }

  /** Throws `not_found`. */
  async get(tenant: string, id: string): Promise<Upload> {
    return this.#shown(await this.#find(tenant, id));
  }

  /**
   * Stores a part. Throws `not_found`, `invalid_value` for an upload that takes no more parts, `body_too_large` for a part beyond
   * `MAX_PART_BYTES`, and what the blob store throws.
   */
  async addPart(tenant: string, id: string, source: AsyncIterable<Uint8Array>): Promise<Part> {
    const { redis, keys, blobs, clock } = this.#o;
    const { facts } = await this.#pending(tenant, id);
    const part: Part = { id: newPartId(), uploadId: id, createdMs: clock.nowMs() };
    // Taken before it comes, so that parts that come side by side keep the limits.
    const count = await redis.hincrby(keys.upload(id), 'parts', 1);
    if (count > MAX_PARTS)
      throw fail('invalid_value', `data: an upload has at most ${MAX_PARTS} parts`, { field: 'data' });
    const name = `${folderOf(id)}/${part.id}`;
    const bytes = await this.#write(facts, name, source);
    const stored = await redis.hincrby(keys.upload(id), 'stored', bytes);
    try {
      // A part may be sent again, but an upload is no place to keep things.
      if (stored > 2 * facts.bytes)
        throw fail('invalid_value', 'data: the parts have more than twice the bytes of the upload', { field: 'data' });
      await redis
        .multi()
        .hset(keys.uploadParts(id), part.id, bytes)
        .pexpire(keys.uploadParts(id), UPLOAD_LIFE_MS + 2 * KEEP_MS)
        .exec();
      // It may have ended while the bytes came.
      await this.#pending(tenant, id);
    } catch (err) {
      await redis.multi().hdel(keys.uploadParts(id), part.id).hincrby(keys.upload(id), 'stored', -bytes).exec();
      await blobs.remove(name);
      throw err;
    }
    return part;
  }

  /**
   * Makes the file, of these parts in this order. The same again gives the same file, also where a process died in the midst of it. Throws
   * `not_found`, and `invalid_value` for an upload that has ended otherwise, parts that there are not, bytes or MD5 that differ.
   */
  async complete(tenant: string, id: string, partIds: readonly string[], md5: string): Promise<Upload> {
    const stored = await this.#find(tenant, id);
    if (stored.end === null) await this.#pending(tenant, id);
    if (stored.file !== null && isSame(stored.end, partIds)) return this.#shown(stored);
    if (stored.end !== null && !isSame(stored.end, partIds)) throw ended(this.#statusOf(stored));
    await this.#checkParts(stored.facts, partIds);
    const fileId = await this.#decide(tenant, id, partIds);
    try {
      const file = await this.#assemble(stored.facts, fileId, partIds, md5);
      await this.#o.redis.hset(this.#o.keys.upload(id), { file: JSON.stringify(file) });
    } catch (err) {
      // Another call with the same parts was faster, and has removed them.
      const now = await this.#find(tenant, id);
      if (now.file !== null) return this.#shown(now);
      throw err;
    }
    await this.#clear(stored.facts);
    return this.get(tenant, id);
  }

  /** Throws `not_found`, and `invalid_value` for an upload that has ended otherwise. */
  async cancel(tenant: string, id: string): Promise<Upload> {
    const { redis, keys } = this.#o;
    const { facts } = await this.#pending(tenant, id);
    const end: End = { status: 'cancelled' };
    await redis.hsetnx(keys.upload(id), 'end', JSON.stringify(end));
    const upload = await this.get(tenant, id);
    if (upload.status !== 'cancelled') throw ended(upload.status);
    await this.#clear(facts);
    return upload;
  }

  /** Removes what is left of uploads that have long ended. @returns how many. */
  async sweep(): Promise<number> {
    const { redis, keys, blobs, clock } = this.#o;
    const ids = await redis.zrangebyscore(keys.uploadsByExpiry, 0, clock.nowMs(), 'LIMIT', 0, 1000);
    for (const id of ids) {
      await blobs.removeAll(folderOf(id));
      await this.#removeUnfinished(id);
      await redis.multi().del(keys.uploadParts(id)).zrem(keys.uploadsByExpiry, id).exec();
    }
    return ids.length;
  }

  /** A completion that was broken off and never gone on with may have left the bytes of a file that is nobody's. */
  async #removeUnfinished(id: string): Promise<void> {
    const { redis, keys, files } = this.#o;
    const [end, file] = await redis.hmget(keys.upload(id), 'end', 'file');
    const decided = typeof end === 'string' ? (JSON.parse(end) as End) : null;
    if (decided?.status === 'completed' && typeof file !== 'string') await files.removeUnowned(decided.fileId);
  }

  async #checkParts(facts: UploadFacts, partIds: readonly string[]): Promise<void> {
    const { redis, keys } = this.#o;
    const refuse = (message: string): never => {
      throw fail('invalid_value', `part_ids: ${message}`, { field: 'part_ids' });
    };
    if (new Set(partIds).size !== partIds.length) refuse('a part is named twice');
    const sizes = partIds.length === 0 ? [] : await redis.hmget(keys.uploadParts(facts.id), ...partIds);
    const unknown = sizes.indexOf(null);
    if (unknown >= 0) refuse(`there is no part "${partIds[unknown]?.slice(0, 80)}" in this upload`);
    const sum = sizes.reduce((bytes, size) => bytes + Number(size), 0);
    if (sum !== facts.bytes) refuse(`the parts have ${sum} bytes, and the upload was created for ${facts.bytes}`);
  }

  /** Id of the file that these parts become. Throws when the upload has ended otherwise meanwhile. */
  async #decide(tenant: string, id: string, partIds: readonly string[]): Promise<string> {
    const mine: End = { status: 'completed', fileId: newFileId(), partIds };
    await this.#o.redis.hsetnx(this.#o.keys.upload(id), 'end', JSON.stringify(mine));
    const stored = await this.#find(tenant, id);
    if (stored.end?.status !== 'completed' || !isSame(stored.end, partIds)) throw ended(this.#statusOf(stored));
    return stored.end.fileId;
  }

  async #assemble(facts: UploadFacts, fileId: string, partIds: readonly string[], md5: string): Promise<FileRecord> {
    const { redis, keys, blobs, files } = this.#o;
    const hash = createHash('md5');
    async function* bytes(): AsyncGenerator<Uint8Array> {
      for (const partId of partIds) {
        for await (const chunk of blobs.read(`${folderOf(facts.id)}/${partId}`)) {
          hash.update(chunk);
          yield chunk;
        }
      }
    }
    const stored = await files.store(bytes(), fileId);
    if (md5 !== '' && hash.digest('hex') !== md5.toLowerCase()) {
      // The upload stays: another order of parts may be the right one.
      await redis.hdel(keys.upload(facts.id), 'end');
      await files.removeUnowned(fileId);
      throw fail('invalid_value', 'md5: the bytes of the parts have another MD5', { field: 'md5' });
    }
    return files.add(stored, facts);
  }

  async #write(facts: UploadFacts, name: string, source: AsyncIterable<Uint8Array>): Promise<number> {
    const limitBytes = Math.min(MAX_PART_BYTES, facts.bytes);
    try {
      return await this.#o.blobs.write(name, source, limitBytes);
    } catch (err) {
      // An upload that has ended meanwhile is why its folder is gone.
      await this.#pending(facts.tenant, facts.id);
      if (!isGuildhallError(err) || err.code !== 'body_too_large') throw err;
      const message = `data: a part has at most ${limitBytes} bytes, and no more than its upload`;
      throw fail('body_too_large', message, { field: 'data', cause: err });
    }
  }

  /** Removes the parts of an upload that has ended. */
  async #clear({ id, tenant }: UploadFacts): Promise<void> {
    const { redis, keys, blobs } = this.#o;
    await redis.multi().del(keys.uploadParts(id)).zrem(keys.uploadsOf(tenant), id).exec();
    await blobs.removeAll(folderOf(id));
  }

  async #pending(tenant: string, id: string): Promise<Stored> {
    const stored = await this.#find(tenant, id);
    const status = this.#statusOf(stored);
    if (status !== 'pending') throw ended(status);
    return stored;
  }

  async #find(tenant: string, id: string): Promise<Stored> {
    const { redis, keys } = this.#o;
    const [facts, end, file] = await redis.hmget(keys.upload(checkUploadId(id)), 'facts', 'end', 'file');
    const parsed = typeof facts === 'string' ? (JSON.parse(facts) as UploadFacts) : null;
    if (parsed === null || parsed.tenant !== tenant) throw noSuch('upload', id, 'upload_id');
    return {
      facts: parsed,
      end: typeof end === 'string' ? (JSON.parse(end) as End) : null,
      file: typeof file === 'string' ? (JSON.parse(file) as FileRecord) : null,
    };
  }

  #statusOf({ facts, end }: Stored): UploadStatus {
    if (end !== null) return end.status;
    return facts.expiresMs <= this.#o.clock.nowMs() ? 'expired' : 'pending';
  }

  #shown(stored: Stored): Upload {
    return { ...stored.facts, status: this.#statusOf(stored), file: stored.file };
  }
}

function isSame(end: End | null, partIds: readonly string[]): boolean {
  return end?.status === 'completed' && end.partIds.join() === partIds.join();
}

function ended(status: UploadStatus): Error {
  return fail('invalid_value', `upload_id: the upload is ${status}`, { field: 'upload_id' });
}
