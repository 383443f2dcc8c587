import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, before, test } from 'node:test';
import { redisKeys } from '@guildhall/common';
import OpenAI, { toFile } from 'openai';
import { Cluster, until } from '../harness/index.ts';
import { redisCommand } from '../harness/redis-command.ts';
import type { ServiceProcess } from '../harness/service-process.ts';

const dataDir = mkdtempSync(join(tmpdir(), 'guildhall-uploads-'));
const MIB = 1 << 20;
let cluster: Cluster;
let service: ServiceProcess;
let alice: OpenAI;
let bob: OpenAI;

before(async () => {
  cluster = await Cluster.start({ gatewayArgs: ['--api-key-file', join(import.meta.dirname, 'keys.txt')] });
  [alice, bob] = ['key-of-alice', 'key-of-bob'].map(
    (apiKey) => new OpenAI({ baseURL: `${cluster.url}/v1`, apiKey, maxRetries: 0 }),
  ) as [OpenAI, OpenAI];
  service = await startBatch('batch-1');
});
after(async () => {
  await cluster.stop();
  rmSync(dataDir, { recursive: true, force: true });
});

async function startBatch(id: string, ...args: string[]): Promise<ServiceProcess> {
  const started = cluster.spawn('batch', ['--id', id, '--data-dir', dataDir, ...args]);
  await started.listening();
  await until(
    'the gateway to know the batch service',
    async () => (await alice.files.list({ limit: 1 })).data !== null,
  );
  return started;
}

const begin = (bytes: number, api = alice): Promise<OpenAI.Upload> =>
  api.uploads.create({ bytes, filename: 'in.bin', mime_type: 'application/octet-stream', purpose: 'user_data' });

async function addPart(id: string, bytes: Buffer, api = alice): Promise<string> {
  const part = await api.uploads.parts.create(id, { data: await toFile(bytes, 'part') });
  assert.deepEqual([part.object, part.upload_id], ['upload.part', id]);
  return part.id;
}

/** What lies in the folder of the parts of an upload. */
function partsOf(id: string): string[] {
  const folder = join(dataDir, 'uploads', id);
  return existsSync(folder) ? readdirSync(folder) : [];
}

const md5 = (bytes: Buffer): string => createHash('md5').update(bytes).digest('hex');

test('parts become a file in the order of completion, whatever order they came in', async () => {
  const [a, b, c] = [randomBytes(3 * MIB), randomBytes(1), randomBytes(700_000)];
  const whole = Buffer.concat([a, b, c]);
  const upload = await begin(whole.length);
  assert.deepEqual([upload.status, upload.bytes, upload.filename], ['pending', whole.length, 'in.bin']);
  assert.equal(upload.expires_at - upload.created_at, 3600);
  const ids = await Promise.all([c, a, b].map((part) => addPart(upload.id, part)));
  const [idC = '', idA = '', idB = ''] = ids;
  const done = await alice.uploads.complete(upload.id, { part_ids: [idA, idB, idC], md5: md5(whole) });
  assert.equal(done.status, 'completed');
  const content = await (await alice.files.content(done.file?.id ?? '')).arrayBuffer();
  assert.ok(Buffer.from(content).equals(whole));
  assert.equal((await alice.files.retrieve(done.file?.id ?? '')).bytes, whole.length);
  assert.deepEqual(partsOf(upload.id), []);
  // The same again gives the same file; anything else is too late.
  const again = await alice.uploads.complete(upload.id, { part_ids: [idA, idB, idC] });
  assert.equal(again.file?.id, done.file?.id);
  const late = { status: 400, param: 'upload_id' };
  await assert.rejects(alice.uploads.complete(upload.id, { part_ids: [idA] }), late);
  await assert.rejects(alice.uploads.cancel(upload.id), late);
  await assert.rejects(addPart(upload.id, b), late);
});

test('a batch runs from a file that came in parts', async () => {
  const line = (i: number): string =>
    JSON.stringify({
      custom_id: `line-${i}`,
      method: 'POST',
      url: '/v1/completions',
      body: { model: 'tiny', prompt: 'a', max_tokens: 2 },
    });
  const rows = Buffer.from([line(1), line(2)].join('\n'));
  const filename = 'in.jsonl';
  const { id } = await alice.uploads.create({
    bytes: rows.length,
    filename,
    mime_type: 'text/jsonl',
    purpose: 'batch',
  });
  // A part may end in the middle of a line.
  const ids = [await addPart(id, rows.subarray(0, 20)), await addPart(id, rows.subarray(20))];
  const { file } = await alice.uploads.complete(id, { part_ids: ids });
  const wanted = { endpoint: '/v1/completions', completion_window: '24h' } as const;
  const batch = await alice.batches.create({ ...wanted, input_file_id: file?.id ?? '' });
  const over = await until('the batch to be over', async () => {
    const now = await alice.batches.retrieve(batch.id);
    return now.status === 'completed' ? now : null;
  });
  assert.deepEqual(over.request_counts, { total: 2, completed: 2, failed: 0 });
});

test('a crash of the service loses no part, and a completion that it broke off is gone on with', async () => {
  // For a moment the gateway still knows the process that died.
  const patient = alice.withOptions({ maxRetries: 8 });
  const parts = Array.from({ length: 6 }, () => randomBytes(4 * MIB));
  const whole = Buffer.concat(parts);
  const { id } = await begin(whole.length, patient);
  const ids: string[] = [];
  for (const part of parts.slice(0, 5)) ids.push(await addPart(id, part, patient));
  const broken = addPart(id, Buffer.alloc(4 * MIB)).catch(() => 'broken');
  service.kill();
  await service.exit();
  assert.equal(await broken.then((part) => part === 'broken' || part.startsWith('part_')), true);
  service = await startBatch('batch-2');
  ids.push(await addPart(id, parts[5] as Buffer, patient));
  const completion = patient.uploads.complete(id, { part_ids: ids, md5: md5(whole) }).catch(() => null);
  await until('the completion to have begun', async () => {
    return (
      (await redisCommand(Number(new URL(cluster.redis.url).port), `HEXISTS ${redisKeys('test').upload(id)} end`)) ===
      ':1'
    );
  });
  service.kill();
  await service.exit();
  await completion;
  service = await startBatch('batch-3');
  const done = await patient.uploads.complete(id, { part_ids: ids, md5: md5(whole) });
  assert.equal(done.status, 'completed');
  const content = Buffer.from(await (await patient.files.content(done.file?.id ?? '')).arrayBuffer());
  assert.equal(md5(content), md5(whole));
  assert.deepEqual(partsOf(id), []);
  const files = (await patient.files.list({ purpose: 'user_data' })).data.filter((file) => file.bytes === whole.length);
  assert.equal(files.length, 1);
});

test('what does not fit together is refused by its name, and the upload stays as it was', async () => {
  const { id } = await begin(20);
  const [a, b] = [await addPart(id, Buffer.alloc(10, 'a')), await addPart(id, Buffer.alloc(10, 'b'))];
  const { id: other } = await begin(20);
  const foreign = await addPart(other, Buffer.alloc(10));
  const refused = (param: string) => ({ status: 400, param });
  for (const ids of [[a], [a, a], [a, b, 'part_0'], [a, foreign], ['']])
    await assert.rejects(alice.uploads.complete(id, { part_ids: ids }), refused('part_ids'), ids.join());
  await assert.rejects(alice.uploads.complete(id, { part_ids: [] }), refused('part_ids'));
  const digest = md5(Buffer.from('a'.repeat(10) + 'b'.repeat(10)));
  await assert.rejects(alice.uploads.complete(id, { part_ids: [b, a], md5: digest }), refused('md5'));
  await assert.rejects(alice.uploads.complete(id, { part_ids: [a, b], md5: 'no digest' }), refused('md5'));
  await assert.rejects(addPart(id, Buffer.alloc(21)), { status: 413 });
  assert.equal((await alice.uploads.complete(id, { part_ids: [a, b], md5: digest })).status, 'completed');
  // Sent again and again, parts do not pile up.
  await addPart(other, Buffer.alloc(20));
  await addPart(other, Buffer.alloc(10));
  await assert.rejects(addPart(other, Buffer.alloc(1)), refused('data'));
  assert.equal(partsOf(other).length, 3);
});

test('a cancelled upload is gone with its parts, and nobody else’s is there', async () => {
  const { id } = await begin(20);
  const part = await addPart(id, Buffer.alloc(20));
  const theirs = [
    () => addPart(id, Buffer.alloc(1), bob),
    () => bob.uploads.complete(id, { part_ids: [part] }),
    () => bob.uploads.cancel(id),
  ];
  for (const call of theirs) await assert.rejects(call, { status: 404, param: 'upload_id' });
  assert.equal((await alice.uploads.cancel(id)).status, 'cancelled');
  assert.deepEqual(partsOf(id), []);
  const late = [
    () => addPart(id, Buffer.alloc(1)),
    () => alice.uploads.complete(id, { part_ids: [part] }),
    () => alice.uploads.cancel(id),
  ];
  for (const call of late) await assert.rejects(call, { status: 400, param: 'upload_id' });
  for (const none of ['upload_0', 'upload', `upload_${'0'.repeat(24)}`, 'x'.repeat(65)])
    await assert.rejects(
      alice.uploads.cancel(none),
      (err: { status: number }) => err.status === 404 || err.status === 400,
    );
});

test('a part that is refused while it comes leaves its connection to the next request', async () => {
  const { id } = await begin(1000);
  const url = new URL(cluster.url);
  const head = '--b\r\ncontent-disposition: form-data; name="data"; filename="x"\r\n\r\n';
  const form = Buffer.concat([Buffer.from(head), Buffer.alloc(16 * MIB), Buffer.from('\r\n--b--\r\n')]);
  const lines = (method: string, path: string, ...more: string[]): string =>
    [`${method} ${path} HTTP/1.1`, 'host: x', 'authorization: Bearer key-of-alice', ...more, '', ''].join('\r\n');
  for (const [upload, status] of [
    [id, 413],
    [`upload_${'0'.repeat(24)}`, 404],
  ] as const) {
    const socket = connect(Number(url.port), url.hostname);
    const type = 'content-type: multipart/form-data; boundary=b';
    socket.write(lines('POST', `/v1/uploads/${upload}/parts`, type, `content-length: ${form.length}`));
    socket.write(form);
    socket.write(lines('GET', '/v1/files', 'connection: close'));
    const answers = await text(socket);
    const statuses = [...answers.matchAll(/HTTP\/1\.1 (\d+) /g)].map(([, code]) => Number(code));
    assert.deepEqual(statuses, [status, 200]);
  }
});

test('fields and forms that are wrong are named', async () => {
  const body = { bytes: 1, filename: 'a', mime_type: 'b', purpose: 'batch' } as const;
  const wrong: [object, string][] = [
    [{ bytes: 0 }, 'bytes'],
    [{ bytes: 1.5 }, 'bytes'],
    [{ bytes: 2 ** 50 }, 'bytes'],
    [{ filename: '' }, 'filename'],
    [{ filename: 'x'.repeat(256) }, 'filename'],
    [{ mime_type: '' }, 'mime_type'],
    [{ purpose: 'nonsense' }, 'purpose'],
    [{ expires_after: { anchor: 'created_at', seconds: 5 } }, 'expires_after.seconds'],
  ];
  for (const [extra, param] of wrong)
    await assert.rejects(alice.uploads.create({ ...body, ...extra } as never), { status: 400, param });
  const { id } = await begin(5);
  const post = async (form: FormData | Blob): Promise<{ status: number; param: string | null }> => {
    const headers = { authorization: 'Bearer key-of-alice' };
    const answer = await fetch(`${cluster.url}/v1/uploads/${id}/parts`, { method: 'POST', headers, body: form });
    const { error } = (await answer.json()) as { error: { param: string | null } };
    return { status: answer.status, param: error.param };
  };
  const form = (name: string, value: string | Blob): FormData => {
    const made = new FormData();
    made.set(name, value);
    return made;
  };
  assert.deepEqual(await post(form('other', new Blob(['a']))), { status: 400, param: 'other' });
  assert.deepEqual(await post(form('data', 'text')), { status: 400, param: 'data' });
  assert.deepEqual(await post(new FormData()), { status: 400, param: 'data' });
  const unnamed = new Blob(['--x\r\ncontent-disposition: form-data\r\n\r\nz\r\n--x--\r\n'], {
    type: 'multipart/form-data; boundary=x',
  });
  assert.equal((await post(unnamed)).status, 400);
  await assert.rejects(begin(2 ** 40), { status: 400, param: 'bytes' });
});
