import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { buffer } from 'node:stream/consumers';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { createMetrics, redisKeys, systemClock } from '@guildhall/common';
import { RedisServer, silentLogger } from '@guildhall/common/testing';
import { Redis } from 'ioredis';
import { BatchRun, type BatchRunDeps } from './batch-run.ts';
import { ApiClient } from './lines/api-client.ts';
import { type Batch, BatchStore } from './store/batch-store.ts';
import { DiskStore } from './store/blob-store.ts';
import { FileStore } from './store/file-store.ts';

const HOUR_MS = 3_600_000;
const dir = mkdtempSync(join(tmpdir(), 'guildhall-batch-run-'));
const keys = redisKeys('test');
let server: RedisServer;
let redis: Redis;
let api: Server;
let base = '';
/** Statuses of the next answers; 200 after them. */
let statuses: number[] = [];
/** Called before each answer. */
let onRequest: () => Promise<void> | void = () => undefined;

before(async () => {
  server = await RedisServer.start();
  redis = new Redis(server.url);
  api = createServer((request, response) => {
    request.resume().on('end', () => {
      void Promise.resolve(onRequest()).then(() => {
        response.writeHead(statuses.shift() ?? 200, { 'content-type': 'application/json' }).end('{"ok":true}');
      });
    });
  }).listen(0, '127.0.0.1');
  await once(api, 'listening');
  base = `http://127.0.0.1:${(api.address() as { port: number }).port}`;
});

after(async () => {
  api.closeAllConnections();
  api.close();
  redis.disconnect();
  await server.stop();
  rmSync(dir, { recursive: true, force: true });
});

/** Milliseconds that the clock of the stores is ahead. */
let aheadMs = 0;
const clock = Object.assign(Object.create(systemClock) as typeof systemClock, {
  nowMs: () => systemClock.nowMs() + aheadMs,
});

function depsOf(): BatchRunDeps {
  const blobs = new DiskStore(dir, 'test');
  const limits = { maxFileBytes: 1 << 20, maxFiles: 1000, ttlMs: 100 * HOUR_MS };
  return {
    batches: new BatchStore(redis, keys, clock),
    files: new FileStore({ redis, keys, blobs, clock, ...limits }),
    blobs,
    api: new ApiClient({ gateways: () => [base], clusterToken: null, clock: systemClock, onRetry: () => undefined }),
    clock,
    logger: silentLogger(),
    metrics: createMetrics('batch'),
    concurrency: 2,
    maxLines: 1000,
    maxLineBytes: 1000,
  };
}

async function* bytesOf(text: string): AsyncGenerator<Uint8Array> {
  yield Buffer.from(text);
}

async function makeBatch({ files, batches }: BatchRunDeps, count: number): Promise<Batch> {
  const url = '/v1/completions';
  const rows = Array.from({ length: count }, (_, i) =>
    JSON.stringify({ custom_id: `c${i}`, method: 'POST', url, body: { i } }),
  );
  const file = await files.add(await files.store(bytesOf(rows.join('\n'))), {
    tenant: 't',
    filename: 'x',
    purpose: 'batch',
    ttlMs: null,
  });
  return await batches.create({ tenant: 't', endpoint: url, inputFileId: file.id, metadata: {} }, HOUR_MS);
}

async function namesIn({ files }: BatchRunDeps, id: string): Promise<string[]> {
  const bytes = await buffer(files.read(await files.get('t', id)));
  const lines = bytes.toString().trimEnd().split('\n');
  return lines
    .map((line) => (JSON.parse(line) as { custom_id: string }).custom_id)
    .toSorted((a, b) => a.localeCompare(b));
}

const never = new AbortController().signal;

test('a line waits while the API has no room, and is done once', async () => {
  const deps = depsOf();
  const batch = await makeBatch(deps, 3);
  statuses = [429, 503];
  assert.equal(await new BatchRun(deps, batch.id, 'one').turn(never), 'over');
  const done = await deps.batches.get('t', batch.id);
  assert.deepEqual([done.status, done.completed, done.failed], ['completed', 3, 0]);
  assert.deepEqual(await namesIn(deps, done.outputFileId), ['c0', 'c1', 'c2']);
});

test('a turn that is paused goes on elsewhere, and no line is run twice', async () => {
  const deps = depsOf();
  const batch = await makeBatch(deps, 40);
  const pause = new AbortController();
  let requests = 0;
  onRequest = () => {
    requests += 1;
    if (requests === 10) pause.abort();
  };
  assert.equal(await new BatchRun(deps, batch.id, 'one').turn(pause.signal), 'paused');
  assert.equal(await new BatchRun(deps, batch.id, 'two').turn(never), 'over');
  onRequest = () => undefined;
  const done = await deps.batches.get('t', batch.id);
  assert.deepEqual([done.status, done.completed, requests], ['completed', 40, 40]);
  assert.equal(new Set(await namesIn(deps, done.outputFileId)).size, 40);
});

test('what a process writes after another has taken its batch does not count', async () => {
  const deps = depsOf();
  const batch = await makeBatch(deps, 6);
  const other = Promise.withResolvers<unknown>();
  let taken = false;
  onRequest = async () => {
    // In the middle of the first turn another process takes the batch over and does all of it.
    if (taken) return;
    taken = true;
    new BatchRun(deps, batch.id, 'new').turn(never).then(other.resolve, other.reject);
    await other.promise;
  };
  assert.equal(await new BatchRun(deps, batch.id, 'old').turn(never), 'lost');
  assert.equal(await other.promise, 'over');
  onRequest = () => undefined;
  const done = await deps.batches.get('t', batch.id);
  assert.deepEqual([done.status, done.completed, done.failed], ['completed', 6, 0]);
  assert.deepEqual(await namesIn(deps, done.outputFileId), ['c0', 'c1', 'c2', 'c3', 'c4', 'c5']);
});

test('what the window was too short for is told line by line', async () => {
  const deps = depsOf();
  const batch = await makeBatch(deps, 30);
  let requests = 0;
  onRequest = () => {
    requests += 1;
    if (requests === 5) aheadMs = 2 * HOUR_MS;
    return requests > 5 ? new Promise<void>(() => undefined) : undefined;
  };
  try {
    assert.equal(await new BatchRun(deps, batch.id, 'one').turn(never), 'over');
  } finally {
    onRequest = () => undefined;
    aheadMs = 0;
  }
  const done = await deps.batches.get('t', batch.id);
  assert.equal(done.status, 'expired');
  assert.equal(done.completed + done.failed, 30);
  assert.ok(done.failed >= 20);
  const names = [...(await namesIn(deps, done.outputFileId)), ...(await namesIn(deps, done.errorFileId))];
  assert.equal(new Set(names).size, 30);
});

test('files expire', async () => {
  const { files } = depsOf();
  const kept = await files.add(await files.store(bytesOf('x')), {
    tenant: 'u',
    filename: 'a',
    purpose: 'user_data',
    ttlMs: null,
  });
  const short = await files.add(await files.store(bytesOf('y')), {
    tenant: 'u',
    filename: 'b',
    purpose: 'user_data',
    ttlMs: HOUR_MS,
  });
  aheadMs = HOUR_MS + 1;
  await assert.rejects(files.get('u', short.id), { code: 'not_found' });
  assert.equal(await files.sweep(), 1);
  aheadMs = 0;
  const page = { limit: 10, after: '', ascending: true };
  assert.deepEqual(
    (await files.list('u', page, '')).files.map(({ id }) => id),
    [kept.id],
  );
});
