import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import type { UsageCounts } from '@guildhall/common';
import { eventually } from '@guildhall/common/testing';
import type { FakeScript } from '../../../../test/fakes/fake-router.ts';
import { GatewayUnderTest, tokensOf } from '../testing/gateway-under-test.ts';
import { makeKey, withKey } from '../testing/keyed.ts';
import { TenantLabels } from './tenant-labels.ts';

let gateway: GatewayUnderTest;
let script: FakeScript;
let tokens: number[];
let length = 0;
const prompt = 'One two three four five six';

before(async () => {
  length = (await tokensOf(prompt)).length;
  tokens = await tokensOf('alpha beta gamma delta epsilon zeta eta theta');
  script = { tokens, cachedTokens: 2, expertMsPerToken: 0.5 };
  gateway = await GatewayUnderTest.start({ requireKey: true, metricTenants: 2 }, { script: () => script });
});
after(() => gateway.stop());
afterEach(() => gateway.router.release());

const post = (key: string, more: object = {}): Promise<Response> =>
  gateway.fetch('/v1/completions', { model: 'tiny', prompt, max_tokens: 4, ...more }, withKey(key));

/** What Redis has of a key, once all of it is told. */
async function used(keyId: string): Promise<UsageCounts & { rows: number }> {
  await gateway.context.limits.meter.flush();
  const hour = Math.floor(Date.now() / 3_600_000);
  const rows = (await gateway.accounts.usage.read(hour - 1, hour + 1)).filter((row) => row.keyId === keyId);
  const total = { requests: 0, inputTokens: 0, cachedTokens: 0, outputTokens: 0, reasoningTokens: 0, expertMicros: 0 };
  for (const row of rows) for (const name of Object.keys(total) as (keyof UsageCounts)[]) total[name] += row[name];
  return { ...total, rows: rows.length };
}

test('usage says what requests came to, with choices and lists of prompts', async () => {
  const { key, record } = await makeKey(gateway, { tenant: 'team' });
  await (await post(key)).text();
  await (await post(key, { prompt: [prompt, prompt], n: 2, stream: true })).text();
  await eventually(async () => (await used(record.id)).requests === 2, 'both requests');
  const { rows: _rows, ...total } = await used(record.id);
  assert.deepEqual(total, {
    requests: 2,
    inputTokens: 3 * length,
    cachedTokens: 3 * 2,
    outputTokens: 5 * 4,
    reasoningTokens: 0,
    expertMicros: 5 * 4 * 500,
  });
});

test('thinking is told apart', async () => {
  const { key, record } = await makeKey(gateway);
  const thought = await tokensOf('hm hm</think>');
  script = { ...script, tokens: [...thought, ...tokens] };
  const ask = { model: 'tiny', messages: [{ role: 'user', content: 'Hi' }], max_tokens: thought.length + 2 };
  await (await gateway.fetch('/v1/chat/completions', ask, withKey(key))).text();
  script = { ...script, tokens };
  await eventually(async () => (await used(record.id)).requests === 1, 'the request');
  const { outputTokens, reasoningTokens } = await used(record.id);
  assert.deepEqual([outputTokens, reasoningTokens], [thought.length + 2, thought.length]);
});

test('a stream is counted while it runs, and no further once its client is gone', async () => {
  const { key, record } = await makeKey(gateway);
  gateway.router.holdBeforeToken(3);
  const gone = new AbortController();
  const init = { ...withKey(key), signal: gone.signal };
  const running = gateway.fetch('/v1/completions', { model: 'tiny', prompt, max_tokens: 8, stream: true }, init);
  const live = await eventually(async () => {
    const now = await used(record.id);
    return now.outputTokens === 3 && now;
  }, 'three tokens');
  assert.deepEqual([live.requests, live.inputTokens, live.expertMicros], [1, length, 1500]);
  gone.abort();
  await running.then((answer) => answer.text()).catch(() => undefined);
  await eventually(() => gateway.context.inFlight.size === 0, 'the end');
  gateway.router.release();
  const { requests, outputTokens } = await used(record.id);
  assert.deepEqual([requests, outputTokens], [1, 3]);
});

test('expert time adds up over the routers that a stream went through', async () => {
  const { key, record } = await makeKey(gateway);
  gateway.router.endAfterToken(1);
  await (await post(key, { max_tokens: 6 })).text();
  await eventually(async () => (await used(record.id)).outputTokens === 6, 'six tokens');
  assert.equal((await used(record.id)).expertMicros, 6 * 500);
});

test('what is used while Redis is away is told when it is back', async () => {
  const { key, record } = await makeKey(gateway);
  await (await post(key)).text();
  await gateway.redis.kill();
  for (let i = 0; i < 3; i++) await (await post(key)).text();
  await gateway.context.limits.meter.flush();
  await gateway.redis.restart();
  await eventually(() => gateway.accounts.redis.status === 'ready', 'the connection');
  // The first one may have been told before, and is gone then with the data of Redis.
  const { requests, outputTokens } = await eventually(async () => {
    const now = await used(record.id);
    return now.requests >= 3 && now;
  }, 'the requests');
  assert.equal(outputTokens, requests * 4);
});

test('a key is told what it has used itself, and nothing of others', async () => {
  const [mine, other] = [await makeKey(gateway, { tenant: 'team' }), await makeKey(gateway, { tenant: 'team' })];
  await (await post(mine.key)).text();
  await (await post(other.key)).text();
  await eventually(async () => (await used(mine.record.id)).requests === 1, 'the request');
  const read = async (query: string): Promise<Response> =>
    gateway.fetch(`/v1/usage${query}`, undefined, withKey(mine.key));
  const report = (await (await read('')).json()) as Record<string, unknown>;
  const total = {
    requests: 1,
    input_tokens: length,
    input_cached_tokens: 2,
    output_tokens: 4,
    reasoning_tokens: 0,
    expert_ms: 2,
  };
  const { hours, ...rest } = report;
  assert.deepEqual(rest, { object: 'usage', key: mine.record.id, tenant: 'team', total });
  assert.equal((hours as unknown[]).length, 1);
  const past = (await (await read('?start_time=0&end_time=3600')).json()) as { hours: unknown[] };
  assert.deepEqual(past.hours, []);
  for (const query of ['?start_time=7200&end_time=3600', '?start_time=0', '?start_time=x', '?day=1'])
    assert.equal((await read(query)).status, 400, query);
});

test('metrics tell tenants apart up to a number', async () => {
  for (const tenant of ['team', 'second', 'third', 'fourth']) {
    const { key } = await makeKey(gateway, { tenant });
    await (await post(key)).text();
  }
  await gateway.context.limits.meter.flush();
  const text = (await gateway.metrics.render()).body;
  const tenants = new Set([...text.matchAll(/guildhall_tenant_requests_total\{tenant="([^"]*)"\}/g)].map((m) => m[1]));
  assert.equal(tenants.size, 3, [...tenants].join());
  assert.ok(tenants.has('other'));
  assert.match(text, /guildhall_tenant_tokens_total\{tenant="team",kind="output"\} [1-9]/);
  assert.match(text, /guildhall_tenant_expert_seconds_total\{tenant="team"\} 0\.0/);
  const labels = new TenantLabels(1);
  assert.deepEqual(
    ['a', 'b', 'a', 'c'].map((name) => labels.of(name)),
    ['a', 'other', 'a', 'other'],
  );
});
