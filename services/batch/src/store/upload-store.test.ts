import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { after, before, test } from 'node:test';
import { FakeClock, redisKeys } from '@guildhall/common';
import { RedisServer } from '@guildhall/common/testing';
import { Redis } from 'ioredis';
import { DiskStore } from './blob-store.ts';
import { FileStore } from './file-store.ts';
import { MAX_PENDING, UPLOAD_LIFE_MS, UploadStore } from './upload-store.ts';

const dir = mkdtempSync(join(tmpdir(), 'guildhall-upload-store-'));
const keys = redisKeys('test');
const clock = new FakeClock();
let server: RedisServer;
let redis: Redis;
let uploads: UploadStore;
let files: FileStore;

before(async () => {
  server = await RedisServer.start();
  redis = new Redis(server.url);
  const blobs = new DiskStore(dir, 'owner');
  files = new FileStore({ redis, keys, blobs, clock, maxFileBytes: 1000, maxFiles: 10, ttlMs: 0 });
  uploads = new UploadStore({ redis, keys, blobs, files, clock, maxFileBytes: 1000 });
});
after(async () => {
  redis.disconnect();
  await server.stop();
  rmSync(dir, { recursive: true, force: true });
});

const FILE = { tenant: 't', filename: 'f', purpose: 'batch', ttlMs: null };

async function* bytes(text: string): AsyncGenerator<Uint8Array> {
  yield Buffer.from(text);
}

function blobs(folder: string): string[] {
  const path = join(dir, folder);
  return existsSync(path) ? readdirSync(path) : [];
}

test('an upload expires after an hour, and an hour later nothing of it is left', async () => {
  const { id } = await uploads.create(FILE, 2);
  const part = await uploads.addPart('t', id, bytes('ab'));
  await clock.advance(UPLOAD_LIFE_MS);
  assert.equal((await uploads.get('t', id)).status, 'expired');
  const late = { code: 'invalid_value', field: 'upload_id', message: /is expired/ };
  await assert.rejects(uploads.complete('t', id, [part.id], ''), late);
  await assert.rejects(uploads.addPart('t', id, bytes('ab')), late);
  assert.equal(await uploads.sweep(), 0);
  assert.equal(blobs(`uploads/${id}`).length, 1);
  await clock.advance(UPLOAD_LIFE_MS);
  assert.equal(await uploads.sweep(), 1);
  assert.deepEqual(blobs(`uploads/${id}`), []);
  assert.equal(await redis.exists(keys.uploadParts(id)), 0);
});

test('what a completion that nobody goes on with has written is removed', async () => {
  const { id } = await uploads.create(FILE, 2);
  const part = await uploads.addPart('t', id, bytes('ab'));
  // A process that dies after it has written the bytes and before it has named their owner.
  const { id: fileId } = await files.store(bytes('ab'));
  const end = { status: 'completed', fileId, partIds: [part.id] };
  await redis.hset(keys.upload(id), { end: JSON.stringify(end) });
  assert.deepEqual(blobs('files'), [fileId]);
  await clock.advance(2 * UPLOAD_LIFE_MS);
  await uploads.sweep();
  assert.deepEqual(blobs('files'), []);
});

test('the bytes of a completed upload outlive its sweep', async () => {
  const { id } = await uploads.create(FILE, 2);
  const parts = [await uploads.addPart('t', id, bytes('b')), await uploads.addPart('t', id, bytes('a'))];
  const ids = parts.map((part) => part.id).toReversed();
  const both = await Promise.all([uploads.complete('t', id, ids, ''), uploads.complete('t', id, ids, '')]);
  const [first, second] = both.map(({ file }) => file?.id);
  assert.equal(first, second);
  await clock.advance(2 * UPLOAD_LIFE_MS);
  await uploads.sweep();
  const record = await files.get('t', first ?? '');
  assert.equal((await buffer(files.read(record))).toString(), 'ab');
  assert.equal((await files.list('t', { limit: 10, after: '', ascending: true }, '')).files.length, 1);
});

test('a tenant has so many uploads pending, others their own', async () => {
  const { id } = await uploads.create(FILE, 1);
  for (let i = 1; i < MAX_PENDING; i += 1) await uploads.create(FILE, 1);
  await assert.rejects(uploads.create(FILE, 1), { code: 'rate_limited' });
  await uploads.create({ ...FILE, tenant: 'other' }, 1);
  await uploads.cancel('t', id);
  await uploads.create(FILE, 1);
  await clock.advance(UPLOAD_LIFE_MS);
  await uploads.create(FILE, 1);
  await assert.rejects(uploads.create(FILE, 1001), { code: 'invalid_value', field: 'bytes' });
});

test('an upload that ends while a part comes in keeps nothing of it', async () => {
  const { id } = await uploads.create(FILE, 2);
  async function* slow(): AsyncGenerator<Uint8Array> {
    yield Buffer.from('a');
    await uploads.cancel('t', id);
    yield Buffer.from('b');
  }
  await assert.rejects(uploads.addPart('t', id, slow()), { code: 'invalid_value', message: /is cancelled/ });
  assert.deepEqual(blobs(`uploads/${id}`), []);
  assert.equal(await redis.exists(keys.uploadParts(id)), 0);
});

test('parts have at most twice the bytes of their upload in all', async () => {
  const { id } = await uploads.create(FILE, 2);
  for (let i = 0; i < 2; i += 1) await uploads.addPart('t', id, bytes('ab'));
  const full = { code: 'invalid_value', field: 'data', message: /twice/ };
  await assert.rejects(uploads.addPart('t', id, bytes('c')), full);
  assert.equal(blobs(`uploads/${id}`).length, 2);
  await assert.rejects(uploads.addPart('t', id, bytes('abc')), { code: 'body_too_large', field: 'data' });
  await uploads.cancel('t', id);
  assert.deepEqual(blobs(`uploads/${id}`), []);
});
