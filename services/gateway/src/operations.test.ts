import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { eventually } from '@guildhall/common/testing';
import OpenAI from 'openai';
import type { FakeScript } from '../../../test/fakes/fake-router.ts';
import { ApiKeys } from './auth.ts';
import { openapiDocument } from './openapi-document.ts';
import { GatewayUnderTest, tokensOf } from './testing/gateway-under-test.ts';

let gateway: GatewayUnderTest;
let script: FakeScript;

before(async () => {
  script = { tokens: await tokensOf('x</think>fine') };
  gateway = await GatewayUnderTest.start(
    { apiKey: ['key-one'], apiKeys: ['key-two'] },
    { script: () => script, servedModels: ['tiny', 'org/tiny-alias'] },
  );
});
after(() => gateway.stop());

const ask = { model: 'tiny', messages: [{ role: 'user' as const, content: 'Hi' }] };
const withKey = { headers: { authorization: 'Bearer key-one' } };

test('every path but the probes needs a key, and any of the keys will do', async () => {
  for (const path of ['/v1/models', '/metrics', '/openapi.json', '/', '/nothing']) {
    const response = await gateway.fetch(path);
    assert.equal(response.status, 401, path);
    assert.equal(response.headers.get('www-authenticate'), 'Bearer');
  }
  for (const path of ['/health', '/ready']) assert.equal((await gateway.fetch(path)).status, 200, path);
  for (const key of ['wrong', 'key-on', 'key-one2', '']) {
    await assert.rejects(gateway.client(key === '' ? ' ' : key).models.list(), OpenAI.AuthenticationError);
  }
  for (const key of ['key-one', 'key-two']) {
    assert.equal((await gateway.client(key).chat.completions.create(ask)).choices[0]?.message.content, 'fine');
  }
});

test('keys come from a file too; an empty or missing file is refused', () => {
  const dir = mkdtempSync(join(tmpdir(), 'guildhall-keys-'));
  const path = join(dir, 'keys');
  writeFileSync(path, '# keys\nalpha # first\n\n  beta\n');
  const keys = ApiKeys.load({ apiKey: [], apiKeys: [], apiKeyFile: path });
  for (const key of ['alpha', 'beta']) assert.ok(keys.find(key) !== null);
  for (const key of ['#', 'alpha ', '', 'first']) assert.equal(keys.find(key), null);
  writeFileSync(path, '# nothing\n');
  assert.throws(() => ApiKeys.load({ apiKey: [], apiKeys: [], apiKeyFile: path }), {
    code: 'config_invalid',
    field: 'apiKeyFile',
  });
  assert.throws(() => ApiKeys.load({ apiKey: [], apiKeys: [], apiKeyFile: join(dir, 'none') }), {
    code: 'config_invalid',
    field: 'apiKeyFile',
  });
  rmSync(dir, { recursive: true });
  assert.equal(new ApiKeys([]).some, false);
});

test('models are listed under all names that routers serve, slashes included', async () => {
  const client = gateway.client('key-one');
  const models = await client.models.list();
  assert.deepEqual(
    models.data.map((model) => model.id),
    ['org/tiny-alias', 'tiny'],
  );
  assert.equal((await client.models.retrieve('org/tiny-alias')).id, 'org/tiny-alias');
  assert.equal((await gateway.fetch('/v1/models/org/tiny-alias', undefined, withKey)).status, 200);
  const completion = await client.chat.completions.create({ ...ask, model: 'org/tiny-alias' });
  assert.equal(completion.model, 'org/tiny-alias');
  assert.equal(gateway.router.calls.at(-1)?.request.model, 'org/tiny-alias');
});

test('a request id is taken over when it is a plain token, else made', async () => {
  const given = await gateway.fetch('/health', undefined, { headers: { 'x-request-id': 'abc-1.2:3' } });
  assert.equal(given.headers.get('x-request-id'), 'abc-1.2:3');
  const odd = await gateway.fetch('/health', undefined, { headers: { 'x-request-id': 'a b"c' } });
  assert.match(odd.headers.get('x-request-id') ?? '', /^req_[0-9a-f]{32}$/);
  const stream = await gateway.fetch(
    '/v1/chat/completions',
    { ...ask, stream: true },
    { headers: { ...withKey.headers, 'x-request-id': 'mine' } },
  );
  assert.equal(stream.headers.get('x-request-id'), 'mine');
  await stream.text();
});

test('a trace context reaches the router', async () => {
  const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
  await gateway.fetch('/v1/chat/completions', ask, { headers: { ...withKey.headers, traceparent } });
  assert.equal(gateway.router.calls.at(-1)?.request.traceparent, traceparent);
  await gateway.fetch('/v1/chat/completions', ask, { headers: { ...withKey.headers, traceparent: 'nonsense' } });
  assert.equal(gateway.router.calls.at(-1)?.request.traceparent, '');
});

test('metrics count requests, latencies and errors', async () => {
  await gateway.client('key-one').chat.completions.create(ask);
  await gateway.fetch('/v1/chat/completions', { model: 'tiny' }, withKey);
  const text = await eventually(async () => {
    const body = await (await gateway.fetch('/metrics', undefined, withKey)).text();
    return (
      /guildhall_http_requests_total\{route="\/v1\/chat\/completions",method="POST",status="400"\} 1/.test(body) && body
    );
  }, 'the request to be counted');
  assert.match(text, /vllm:time_to_first_token_seconds_count\{model_name="tiny"\} [1-9]/);
  assert.match(text, /vllm:inter_token_latency_seconds_count\{model_name="tiny"\} [1-9]/);
  assert.match(text, /vllm:e2e_request_latency_seconds_count\{model_name="tiny"\} [1-9]/);
  assert.match(text, /guildhall_errors_total\{code="missing_field"\} [1-9]/);
  assert.match(text, /guildhall_http_tokens_total\{model_name="tiny",kind="completion"\} [1-9]/);
  assert.match(text, /guildhall_http_tokens_total\{model_name="tiny",kind="prompt"\} [1-9]/);
  assert.match(text, /guildhall_http_in_flight 0/);
  assert.match(text, /guildhall_routers 1/);
  assert.ok(!text.includes('route="/nothing"'), 'unknown paths share one label');
});

test('without a router: alive, not ready, 503 with Retry-After; names stay known; Redis may be away', async () => {
  await gateway.redis.kill();
  await eventually(() => gateway.context.pool.stale, 'Redis to be missed');
  assert.equal((await gateway.client('key-one').chat.completions.create(ask)).choices[0]?.message.content, 'fine');
  const ready = await gateway.fetch('/ready');
  assert.deepEqual(await ready.json(), { ready: true, reason: null, routers: 1, redis: 'lost' });
  await gateway.redis.restart();
  await eventually(() => !gateway.context.pool.stale, 'Redis to be back');
  await gateway.leases.get(gateway.router)?.leave();
  await eventually(() => gateway.context.pool.usable.length === 0, 'the router to be gone');
  assert.equal((await gateway.fetch('/health')).status, 200);
  assert.equal((await gateway.fetch('/ready')).status, 503);
  const refused = await gateway.fetch('/v1/chat/completions', ask, withKey);
  assert.equal(refused.status, 503);
  assert.equal(refused.headers.get('retry-after'), '1');
  assert.equal(((await refused.json()) as { error: { code: string } }).error.code, 'no_router');
  const unknown = await gateway.fetch('/v1/chat/completions', { ...ask, model: 'other' }, withKey);
  assert.equal(unknown.status, 404);
});

test('docs/openapi.json is what the schemas say', async () => {
  const path = new URL('../../../docs/openapi.json', import.meta.url);
  const made = await openapiDocument();
  if (process.env['GUILDHALL_UPDATE_OPENAPI'] === '1') writeFileSync(path, made);
  assert.ok(
    readFileSync(path, 'utf8') === made,
    'it has drifted: run this test with GUILDHALL_UPDATE_OPENAPI=1 to write it',
  );
  const served = await (await gateway.fetch('/openapi.json', undefined, withKey)).json();
  assert.deepEqual(served, JSON.parse(made));
  const { paths } = served as { paths: Record<string, unknown> };
  assert.deepEqual(Object.keys(paths).toSorted(), [
    '/',
    '/detokenize',
    '/health',
    '/metrics',
    '/openapi.json',
    '/ping',
    '/ready',
    '/tokenize',
    '/v1/batches',
    '/v1/batches/{batch_id}',
    '/v1/batches/{batch_id}/cancel',
    '/v1/chat/completions',
    '/v1/chat/completions/render',
    '/v1/completions',
    '/v1/completions/render',
    '/v1/files',
    '/v1/files/{file_id}',
    '/v1/files/{file_id}/content',
    '/v1/messages',
    '/v1/messages/count_tokens',
    '/v1/models',
    '/v1/models/{model}',
    '/v1/responses',
    '/v1/responses/input_tokens',
    '/v1/responses/{response_id}',
    '/v1/responses/{response_id}/cancel',
    '/v1/responses/{response_id}/input_items',
    '/v1/uploads',
    '/v1/uploads/{upload_id}/cancel',
    '/v1/uploads/{upload_id}/complete',
    '/v1/uploads/{upload_id}/parts',
    '/v1/usage',
    '/version',
  ]);
});
