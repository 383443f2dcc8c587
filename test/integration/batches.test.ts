import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import OpenAI, { toFile } from 'openai';
import { Cluster, until } from '../harness/index.ts';
import type { ServiceProcess } from '../harness/service-process.ts';

const cluster = await Cluster.start({ gatewayArgs: ['--api-key-file', keyFile()] });
after(() => cluster.stop());
const dataDir = mkdtempSync(join(tmpdir(), 'guildhall-batch-'));
after(() => rmSync(dataDir, { recursive: true, force: true }));

function keyFile(): string {
  return join(import.meta.dirname, 'keys.txt');
}

function client(key: string): OpenAI {
  return new OpenAI({ baseURL: `${cluster.url}/v1`, apiKey: key, maxRetries: 0 });
}

const alice = client('key-of-alice');
const bob = client('key-of-bob');

function startBatch(id: string, ...args: string[]): ServiceProcess {
  return cluster.spawn('batch', ['--id', id, '--data-dir', dataDir, ...args]);
}

async function served(): Promise<void> {
  await until('the gateway to know a batch service', async () => (await alice.files.list({ limit: 1 })).data !== null);
}

interface Line {
  custom_id: string;
  body?: Record<string, unknown>;
}

function lines(count: number, body: Record<string, unknown> = {}): Line[] {
  return Array.from({ length: count }, (_, i) => ({
    custom_id: `line-${i}`,
    body: { model: 'tiny', messages: [{ role: 'user', content: `Say ${i}` }], max_tokens: 3, seed: i, ...body },
  }));
}

function jsonl(requests: readonly Line[]): string {
  return requests.map((line) => JSON.stringify({ method: 'POST', url: '/v1/chat/completions', ...line })).join('\n');
}

async function upload(api: OpenAI, text: string): Promise<string> {
  return (await api.files.create({ file: await toFile(Buffer.from(text), 'in.jsonl'), purpose: 'batch' })).id;
}

async function create(api: OpenAI, fileId: string): Promise<string> {
  const batch = await api.batches.create({
    input_file_id: fileId,
    endpoint: '/v1/chat/completions',
    completion_window: '24h',
    metadata: { who: 'test' },
  });
  assert.equal(batch.status, 'validating');
  return batch.id;
}

async function over(api: OpenAI, id: string): Promise<OpenAI.Batch> {
  return await until(
    'the batch to be over',
    async () => {
      const batch = await api.batches.retrieve(id);
      return ['completed', 'failed', 'expired', 'cancelled'].includes(batch.status) ? batch : null;
    },
    120_000,
  );
}

interface Result {
  id: string;
  custom_id: string;
  response: {
    status_code: number;
    request_id: string;
    body: { usage?: { completion_tokens: number }; error?: { code: string } };
  } | null;
  error: { code: string } | null;
}

async function results(api: OpenAI, fileId: string | null | undefined): Promise<Result[]> {
  if (!fileId) return [];
  const text = await (await api.files.content(fileId)).text();
  return text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Result);
}

test('without a batch service the answer says so', async () => {
  await assert.rejects(alice.files.list(), { status: 503, code: 'not_ready' });
});

test('a batch runs, with a line that fails, and its files are its owner’s only', async () => {
  const service = startBatch('batch-1');
  await service.listening();
  await served();
  const requests = [...lines(5), { custom_id: 'wrong', body: { model: 'tiny', messages: [], max_tokens: 3 } }];
  const input = await upload(alice, jsonl(requests));
  const id = await create(alice, input);
  const batch = await over(alice, id);
  assert.equal(batch.status, 'completed');
  assert.deepEqual(batch.request_counts, { total: 6, completed: 5, failed: 1 });
  assert.deepEqual(batch.metadata, { who: 'test' });
  const good = await results(alice, batch.output_file_id);
  assert.deepEqual(
    good.map((line) => line.custom_id).toSorted((a, b) => a.localeCompare(b)),
    lines(5).map((line) => line.custom_id),
  );
  for (const { response, error } of good) {
    assert.equal(error, null);
    assert.equal(response?.status_code, 200);
    assert.equal(response.body.usage?.completion_tokens, 3);
  }
  const bad = await results(alice, batch.error_file_id);
  assert.deepEqual(
    bad.map(({ custom_id: name, response }) => [name, response?.status_code, response?.body.error?.code]),
    [['wrong', 400, 'invalid_value']],
  );
  for (const theirs of [
    bob.batches.retrieve(id),
    bob.batches.cancel(id),
    bob.files.retrieve(input),
    bob.files.content(batch.output_file_id ?? ''),
    bob.files.delete(input),
    create(bob, input),
  ])
    await assert.rejects(theirs, { status: 404 });
  assert.deepEqual((await bob.files.list()).data, []);
  assert.deepEqual((await bob.batches.list()).data, []);
  const names = (await alice.files.list({ purpose: 'batch' })).data.map((file) => file.id);
  assert.deepEqual(names, [input]);
  assert.equal((await alice.files.list()).data.length, 3);
  assert.equal(await service.stop(), undefined);
});

test('lines are not run twice, nor lost, when the process that runs them is killed', async () => {
  const first = startBatch('batch-2', '--concurrency', '2');
  await first.listening();
  await served();
  const id = await create(alice, await upload(alice, jsonl(lines(60, { max_tokens: 12 }))));
  await until(
    'some lines to be done',
    async () => ((await alice.batches.retrieve(id)).request_counts?.completed ?? 0) > 4,
  );
  first.kill();
  assert.equal(await first.exit(), 'SIGKILL');
  const second = startBatch('batch-3');
  await second.listening();
  const batch = await over(alice, id);
  assert.equal(batch.status, 'completed');
  assert.deepEqual(batch.request_counts, { total: 60, completed: 60, failed: 0 });
  const names = (await results(alice, batch.output_file_id)).map((line) => line.custom_id);
  assert.equal(names.length, 60);
  assert.equal(new Set(names).size, 60);
  assert.deepEqual(readdirSync(join(dataDir, 'parts')), []);
  await second.stop();
});

test('a file with a wrong line in the middle is refused, with the line’s number', async () => {
  const service = startBatch('batch-4');
  await service.listening();
  await served();
  const rows = jsonl(lines(5)).split('\n');
  rows[2] = '{"custom_id": ';
  rows[3] = JSON.stringify({ custom_id: 'line-0', method: 'POST', url: '/v1/embeddings', body: {} });
  const batch = await over(alice, await create(alice, await upload(alice, rows.join('\n'))));
  assert.equal(batch.status, 'failed');
  assert.deepEqual(
    batch.errors?.data?.map(({ code, line }) => [code, line]),
    [
      ['invalid_json_line', 3],
      ['mismatched_url', 4],
    ],
  );
  const twice = await over(alice, await create(alice, await upload(alice, jsonl([...lines(2), ...lines(1)]))));
  assert.deepEqual(
    twice.errors?.data?.map(({ code, line }) => [code, line]),
    [['duplicate_custom_id', 3]],
  );
  await service.stop();
});

test('a batch that is cancelled stops, and keeps what is done', async () => {
  const service = startBatch('batch-5', '--concurrency', '1');
  await service.listening();
  await served();
  const id = await create(alice, await upload(alice, jsonl(lines(500, { max_tokens: 16 }))));
  await until('a line to be done', async () => ((await alice.batches.retrieve(id)).request_counts?.completed ?? 0) > 0);
  assert.equal((await alice.batches.cancel(id)).status, 'cancelling');
  const batch = await over(alice, id);
  assert.equal(batch.status, 'cancelled');
  const { completed = 0 } = batch.request_counts ?? {};
  assert.ok(completed > 0 && completed < 500);
  assert.equal((await results(alice, batch.output_file_id)).length, completed);
  await assert.rejects(alice.batches.cancel(id), { status: 400 });
  await service.stop();
});

test('two processes share the batches, and both do the same file right', async () => {
  const services = [
    startBatch('batch-6', '--concurrent-batches', '1'),
    startBatch('batch-7', '--concurrent-batches', '1'),
  ];
  await Promise.all(services.map((service) => service.listening()));
  await served();
  const input = await upload(alice, jsonl(lines(20)));
  const ids = await Promise.all([create(alice, input), create(alice, input)]);
  const outputs = await Promise.all(
    ids.map(async (id) => {
      const batch = await over(alice, id);
      assert.deepEqual(batch.request_counts, { total: 20, completed: 20, failed: 0 });
      return await results(alice, batch.output_file_id);
    }),
  );
  for (const output of outputs) assert.equal(new Set(output.map((line) => line.custom_id)).size, 20);
  await Promise.all(services.map((service) => service.stop()));
});

test('uploads are bounded, and refused with the name of the field', async () => {
  const service = startBatch('batch-8', '--max-file-bytes', '4096');
  await service.listening();
  await served();
  await assert.rejects(upload(alice, 'x'.repeat(5000)), { status: 413 });
  const file = await toFile(Buffer.from('x'), 'x');
  await assert.rejects(alice.files.create({ file, purpose: 'nonsense' as 'batch' }), { status: 400, param: 'purpose' });
  await assert.rejects(alice.files.retrieve('file-../../etc/passwd'), { status: 404 });
  const kept = await alice.files.create({ file, purpose: 'user_data' });
  await assert.rejects(create(alice, kept.id), { status: 400, param: 'input_file_id' });
  assert.equal((await alice.files.delete(kept.id)).deleted, true);
  await assert.rejects(alice.files.retrieve(kept.id), { status: 404 });
  await service.stop();
});

test('only the cluster may speak for a tenant', async () => {
  const ask = (headers: Record<string, string>): Promise<Response> =>
    fetch(`${cluster.url}/v1/models`, { headers: { 'x-guildhall-tenant': 'alice', ...headers } });
  assert.equal((await ask({})).status, 401);
  assert.equal((await ask({ authorization: 'Bearer key-of-bob' })).status, 401);
  assert.equal((await ask({ authorization: `Bearer ${cluster.token}` })).status, 200);
});
