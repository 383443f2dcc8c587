import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { accountKeys, redisKeys } from '@guildhall/common';
import { RedisNodes } from '@guildhall/common/testing';
import OpenAI, { toFile } from 'openai';
import { guildhall } from '../harness/command.ts';
import { Cluster, until } from '../harness/index.ts';

/** Names whose slots belong to different nodes. */
const [CLUSTER, ACCOUNTS] = ['test', 'accounts'];

const nodes = await RedisNodes.start();
after(() => nodes.stop());
const ENV = { GUILDHALL_REDIS: nodes.url, GUILDHALL_CLUSTER: CLUSTER, GUILDHALL_ACCOUNTS: ACCOUNTS };
const cluster = await Cluster.start({
  env: ENV,
  workers: 0,
  routerArgs: ['--experts', 'local'],
  gatewayArgs: ['--require-key', '--max-in-flight', '2', '--tenant-concurrency', '2'],
});
after(() => cluster.stop());
const second = cluster.spawn('gateway', [
  ...['--id', 'gateway-2', `--model=${cluster.options.model}`, '--served-model-name=tiny', '--require-key'],
]);
const urls = [cluster.url, `http://${(await second.listening()).address}`] as const;

async function command(...args: string[]): Promise<Record<string, unknown>[]> {
  const text = await guildhall([...args, '--json'], ENV);
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

async function newKey(...args: string[]): Promise<{ key: string; id: string }> {
  const [made] = await command('keys', 'create', ...args);
  return made as unknown as { key: string; id: string };
}

const client = (key: string, gateway: 0 | 1 = 0): OpenAI =>
  new OpenAI({ baseURL: `${urls[gateway]}/v1`, apiKey: key, maxRetries: 0 });

function complete(key: string, gateway: 0 | 1 = 0, more: object = {}): Promise<OpenAI.Completion> {
  const body = { model: 'tiny', prompt: 'The guild keeps a hall', max_tokens: 4, ...more };
  return client(key, gateway).completions.create({ ...body, stream: false });
}

test('accounts and the cluster have a node each, and no third one has any of it', async () => {
  const owner = async (key: string): Promise<string> => (await nodes.ownerOf(await nodes.slotOf(key))).id;
  const [ours, theirs] = [redisKeys(CLUSTER).members, accountKeys(ACCOUNTS).apiKeys];
  assert.notEqual(await owner(ours), await owner(theirs));
  await newKey();
  for (const { id, redis } of nodes.nodes) {
    const names = await redis.keys('*');
    for (const name of names) assert.ok([ours, theirs].some((one) => name.startsWith(one.slice(0, one.indexOf('}')))));
    if (id !== (await owner(ours)) && id !== (await owner(theirs))) assert.deepEqual(names, []);
  }
});

test('keys are made, listed, changed and revoked, and every gateway hears of it', async () => {
  const { key, id } = await newKey('--tenant', 'team', '--model', 'tiny');
  for (const gateway of [0, 1] as const) assert.ok((await complete(key, gateway)).usage);
  assert.deepEqual(
    (await command('keys', 'list', '--tenant', 'team')).map((one) => one['id']),
    [id],
  );
  await command('keys', 'change', id, '--requests-per-minute', '1');
  await complete(key);
  await assert.rejects(complete(key, 1), { status: 429 });
  await command('keys', 'revoke', id);
  for (const gateway of [0, 1] as const)
    await until('the key to be refused', () =>
      complete(key, gateway).then(
        () => false,
        (err: unknown) => err instanceof OpenAI.AuthenticationError,
      ),
    );
});

test('quotas of key and tenant are taken together, and usage is the sum of what was answered', async () => {
  const { key, id } = await newKey('--requests-per-minute', '4', '--tokens-per-minute', '100000', '--concurrency', '2');
  const settled = await Promise.allSettled(Array.from({ length: 12 }, (_, i) => complete(key, i % 2 === 0 ? 0 : 1)));
  const served = settled.flatMap((one) => (one.status === 'fulfilled' ? [one.value.usage] : []));
  assert.ok(served.length >= 1 && served.length <= 5, String(served.length));
  for (const one of settled)
    if (one.status === 'rejected') assert.equal((one.reason as { status?: number }).status, 429, String(one.reason));
  const expected = served.reduce((sum, usage) => sum + (usage?.total_tokens ?? 0), 0);
  const total = await until('usage', async () => {
    const [line] = await command('usage', '--key', id);
    return line?.['requests'] === served.length ? line : null;
  });
  assert.equal(Number(total['input_tokens']) + Number(total['output_tokens']), expected);
});

test('a gateway that is full makes requests wait, and serves them', async () => {
  const { key } = await newKey();
  const answers = await Promise.all(Array.from({ length: 2 }, () => complete(key, 0, { max_tokens: 32 })));
  const others = await Promise.all(
    Array.from({ length: 6 }, async (_, i) => complete((await newKey('--name', `n${i}`)).key, 0, { max_tokens: 8 })),
  );
  assert.ok([...answers, ...others].every((answer) => answer.choices.length === 1));
  const waited = await cluster.metric(cluster.gateway, 'guildhall_gateway_queue_total', 'outcome="served"');
  assert.ok(waited > 0, 'nobody had to wait');
});

test('responses are stored, continued, run in the background, cancelled and deleted', async () => {
  const { key } = await newKey();
  const api = client(key);
  const first = await api.responses.create({ model: 'tiny', input: 'Hello', max_output_tokens: 4 });
  const next = { model: 'tiny', input: 'Go on', previous_response_id: first.id, max_output_tokens: 4 };
  assert.equal((await client(key, 1).responses.create(next)).previous_response_id, first.id);
  const job = await api.responses.create({ model: 'tiny', input: 'Count', max_output_tokens: 6, background: true });
  const done = await until('the background response', async () => {
    const now = await client(key, 1).responses.retrieve(job.id);
    return ['completed', 'incomplete'].includes(now.status ?? '') ? now : null;
  });
  assert.ok(done.output.length > 0);
  await api.responses.delete(first.id);
  await assert.rejects(api.responses.retrieve(first.id), { status: 404 });
});

test('a batch runs on its queue', async () => {
  const service = cluster.spawn('batch', ['--id', 'batch-1', '--data-dir', cluster.dir]);
  await service.listening();
  const api = client((await newKey('--tenant', 'lines')).key);
  await until('the gateway to know the batch service', async () => (await api.files.list({ limit: 1 })).data !== null);
  const line = (i: number): string =>
    JSON.stringify({
      custom_id: `line-${i}`,
      method: 'POST',
      url: '/v1/completions',
      body: { model: 'tiny', prompt: `Say ${i}`, max_tokens: 3 },
    });
  const text = Array.from({ length: 5 }, (_, i) => line(i)).join('\n');
  const file = await api.files.create({ file: await toFile(Buffer.from(text), 'in.jsonl'), purpose: 'batch' });
  const { id } = await api.batches.create({
    input_file_id: file.id,
    endpoint: '/v1/completions',
    completion_window: '24h',
  });
  const batch = await until('the batch to be over', async () => {
    const now = await api.batches.retrieve(id);
    return ['completed', 'failed', 'expired'].includes(now.status) ? now : null;
  });
  assert.deepEqual([batch.status, batch.request_counts?.completed], ['completed', 5]);
});
