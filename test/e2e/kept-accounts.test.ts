import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, test } from 'node:test';
import { UpProcess } from '../harness/up-process.ts';
import { until } from '../harness/wait.ts';

const scratch = mkdtempSync(join(tmpdir(), 'guildhall-kept-'));
let up: UpProcess;
let url = '';
afterEach(() => up.stop());
after(() => rmSync(scratch, { recursive: true, force: true }));

async function start(state: string, args: readonly string[] = []): Promise<void> {
  up = new UpProcess(join(scratch, state), args);
  url = await up.ready();
}

async function newKey(...args: string[]): Promise<{ key: string; id: string }> {
  return JSON.parse(await up.command('keys', 'create', '--json', ...args)) as { key: string; id: string };
}

async function ask(path: string, key: string, body?: object): Promise<Response> {
  return fetch(`${url}${path}`, {
    method: body === undefined ? 'GET' : 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
}

interface Used {
  requests: number;
  input_tokens: number;
  output_tokens: number;
}

/** What a key has used, once that is `requests` requests. */
async function used(key: string, requests: number): Promise<Used> {
  return until(`usage of ${requests} requests`, async () => {
    const { total } = (await (await ask('/v1/usage', key)).json()) as { total: Used };
    return total.requests === requests && total;
  });
}

const COMPLETION = { model: 'tiny', prompt: 'The guild keeps a hall', max_tokens: 4 };
const LONG = { ...COMPLETION, max_tokens: 400, ignore_eos: true, stream: true };

test('keys, usage and responses are there after a restart, and what ran before is not', async () => {
  await start('restart', ['--workers', '1']);
  const { key } = await newKey('--tenant', 'team', '--requests-per-minute', '100');
  assert.equal((await ask('/v1/completions', key, COMPLETION)).status, 200);
  const stored = await ask('/v1/responses', key, { model: 'tiny', input: 'Hello', max_output_tokens: 4 });
  const response = (await stored.json()) as { id: string; output: object[] };
  const before = await used(key, 2);
  await up.stop();

  await start('restart', ['--workers', '1']);
  assert.equal(statSync(join(up.state, 'redis')).mode & 0o777, 0o700, 'others cannot read what is kept');
  const again = await ask('/v1/completions', key, COMPLETION);
  assert.equal(again.status, 200);
  assert.equal(again.headers.get('x-ratelimit-limit-requests'), '100');
  const found = (await (await ask(`/v1/responses/${response.id}`, key)).json()) as typeof response;
  assert.deepEqual(found.output, response.output);
  const next = { model: 'tiny', input: 'Go on', previous_response_id: response.id, max_output_tokens: 4 };
  assert.equal((await ask('/v1/responses', key, next)).status, 200);
  const now = await used(key, 4);
  assert.ok(now.input_tokens > before.input_tokens && now.output_tokens > before.output_tokens);
  const { epoch } = JSON.parse(await up.command('status', '--json')) as { epoch: number };
  assert.equal(epoch, 1, 'a placement of this run alone');
  await up.stop();
});

test('SIGKILL of everything in the middle of a stream: the key works at once, its place is free, usage is there', async () => {
  await start('killed', ['--experts', 'local']);
  const { key } = await newKey('--concurrency', '1');
  assert.equal((await ask('/v1/completions', key, COMPLETION)).status, 200);
  const before = await used(key, 1);
  const stream = await ask('/v1/completions', key, LONG);
  const reader = stream.body?.getReader();
  await reader?.read();
  await used(key, 2);
  await up.killAll();
  await reader?.read().catch(() => undefined);

  await start('killed', ['--experts', 'local']);
  assert.equal((await ask('/v1/completions', key, COMPLETION)).status, 200, 'the place of the lost stream is free');
  const now = await used(key, 3);
  assert.ok(now.output_tokens > before.output_tokens);
  const { members } = JSON.parse(await up.command('status', '--json')) as { members: { id: string }[] };
  assert.deepEqual(members.map((member) => member.id).sort(), ['gateway-1', 'router-1']);
  await up.stop();
});

test('a revoked key stays revoked, and --fresh forgets all keys and usage', async () => {
  await start('fresh', ['--experts', 'local', '--api-key', 'other']);
  const [kept, revoked] = [await newKey('--name', 'kept'), await newKey()];
  await up.command('keys', 'revoke', revoked.id);
  assert.equal((await ask('/v1/completions', kept.key, COMPLETION)).status, 200);
  await used(kept.key, 1);
  await up.stop();
  await start('fresh', ['--experts', 'local', '--api-key', 'other']);
  assert.equal((await ask('/v1/models', kept.key)).status, 200);
  assert.equal((await ask('/v1/models', revoked.key)).status, 401);
  await up.stop();
  await start('fresh', ['--experts', 'local', '--api-key', 'other', '--fresh']);
  assert.equal((await ask('/v1/models', kept.key)).status, 401);
  assert.equal(await up.command('keys', 'list', '--all', '--json'), '');
  assert.equal(await up.command('usage', '--json'), '');
});
