import assert from 'node:assert/strict';
import { request } from 'node:http';
import { join } from 'node:path';
import { after, test } from 'node:test';
import OpenAI, { toFile } from 'openai';
import { S3Server } from '../fakes/s3-server.ts';
import { Cluster, until } from '../harness/index.ts';
import type { ServiceProcess } from '../harness/service-process.ts';

const s3 = new S3Server();
await s3.start();
after(() => s3.stop());
const cluster = await Cluster.start({ gatewayArgs: ['--api-key-file', join(import.meta.dirname, 'keys.txt')] });
after(() => cluster.stop());
const alice = new OpenAI({ baseURL: `${cluster.url}/v1`, apiKey: 'key-of-alice', maxRetries: 0 });

async function startBatch(id: string): Promise<ServiceProcess> {
  const started = cluster.spawn('batch', ['--id', id, '--files-storage', 's3://bucket/guildhall'], s3.env);
  await started.listening();
  // A service that died is asked in turn with the others until its lease is over.
  let answers = 0;
  await until('the gateway to ask this batch service only', async () => {
    answers = await alice.files.list().then(
      () => answers + 1,
      () => 0,
    );
    return answers >= 4;
  });
  return started;
}

let service: ServiceProcess;

const line = (id: number): object => {
  const body = { model: 'tiny', messages: [{ role: 'user', content: `Say ${id}` }], max_tokens: 3, seed: id };
  return { custom_id: `line-${id}`, method: 'POST', url: '/v1/chat/completions', body };
};

test('a batch runs from a bucket into it, and leaves nothing there that is no file', async () => {
  service = await startBatch('batch-1');
  const text = [1, 2, 3, 4].map((id) => JSON.stringify(line(id))).join('\n');
  const input = await alice.files.create({ file: await toFile(Buffer.from(text), 'in.jsonl'), purpose: 'batch' });
  assert.deepEqual(s3.names, [`bucket/guildhall/files/${input.id}`]);
  const made = await alice.batches.create({
    input_file_id: input.id,
    endpoint: '/v1/chat/completions',
    completion_window: '24h',
  });
  const batch = await until('the batch to be over', async () => {
    const now = await alice.batches.retrieve(made.id);
    return now.status === 'completed' ? now : null;
  });
  assert.deepEqual(batch.request_counts, { total: 4, completed: 4, failed: 0 });
  const output = await (await alice.files.content(batch.output_file_id ?? '')).text();
  assert.equal(output.trimEnd().split('\n').length, 4);
  assert.deepEqual(s3.names, [input.id, batch.output_file_id].map((id) => `bucket/guildhall/files/${id}`).toSorted());
  await alice.files.delete(input.id);
  assert.deepEqual(s3.names, [`bucket/guildhall/files/${batch.output_file_id}`]);
});

test('a process that dies within an upload leaves no file behind', async () => {
  const before = [...s3.names];
  const boundary = 'b0undary';
  const upload = request(`${cluster.url}/v1/files`, {
    method: 'POST',
    headers: { authorization: 'Bearer key-of-alice', 'content-type': `multipart/form-data; boundary=${boundary}` },
  });
  const answered = new Promise<number>((resolve, reject) => {
    upload.once('response', (response) => resolve(response.resume().statusCode ?? 0));
    upload.once('error', reject);
  });
  upload.write(`--${boundary}\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n`);
  upload.write(`--${boundary}\r\ncontent-disposition: form-data; name="file"; filename="large.jsonl"\r\n\r\n`);
  // More than a part, so that the first one is in the bucket, and no end.
  upload.write(Buffer.alloc(20 << 20, 'x'));
  await until('a part to be stored', async () => [...s3.uploads.values()].some((parts) => parts.size > 0));
  service.kill('SIGKILL');
  assert.ok((await answered) >= 500);
  upload.destroy();
  assert.deepEqual(s3.names, before, 'no object');
  await startBatch('batch-2');
  const files = await alice.files.list();
  assert.deepEqual(
    files.data.map(({ id }) => `bucket/guildhall/files/${id}`).toSorted(),
    before,
    'and nothing in the list that is not in the bucket',
  );
});

test('a bucket that refuses is said to the client', async () => {
  s3.statuses.push(503, 503, 503, 503);
  const file = await toFile(Buffer.from('{}'), 'in.jsonl');
  await assert.rejects(alice.files.create({ file, purpose: 'batch' }), { status: 503, code: 'storage_unavailable' });
});
