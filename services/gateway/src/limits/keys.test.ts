import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { type KeyRecord, newApiKey } from '@guildhall/common';
import { eventually } from '@guildhall/common/testing';
import type { FakeScript } from '../../../../test/fakes/fake-router.ts';
import { GatewayUnderTest, tokensOf } from '../testing/gateway-under-test.ts';
import { makeKey, refusalOf, withKey } from '../testing/keyed.ts';
import { MAX_CACHED } from './key-cache.ts';

let gateway: GatewayUnderTest;
let slow: GatewayUnderTest;
let script: FakeScript;

before(async () => {
  script = { tokens: await tokensOf('x</think>fine') };
  const options = { script: () => script, servedModels: ['tiny', 'other'], clusterToken: 'cluster-secret' };
  const config = { requireKey: true, clusterToken: 'cluster-secret', apiKey: ['from-an-option'] };
  gateway = await GatewayUnderTest.start({ ...config, keyCacheMs: 200, trustedProxies: ['127.0.0.1'] }, options);
  // It hears of changes only by the news, for as long as the tests take.
  slow = await gateway.another('gateway-2', { ...config, keyCacheMs: 60_000 });
});
after(async () => {
  await slow.stop();
  await gateway.stop();
});
beforeEach(() => {
  address = `10.0.${(tests += 1)}.1`;
});
afterEach(() => gateway.router.release());

/** Each test has an address of its own, and with it its own attempts. */
let address = '';
let tests = 0;
const as = (key: string, more: Record<string, string> = {}): RequestInit =>
  withKey(key, { 'x-forwarded-for': address, ...more });

const ask = { model: 'tiny', messages: [{ role: 'user' as const, content: 'Hi' }], max_tokens: 5 };
const post = (key: string, body: object = ask, of = gateway, more: Record<string, string> = {}): Promise<Response> =>
  of.fetch('/v1/chat/completions', body, as(key, more));

async function statusOf(key: string, of = gateway): Promise<number> {
  const response = await post(key, ask, of);
  await response.text();
  return response.status;
}

test('keys of Redis are let in by either header, beside those of options and the cluster token', async () => {
  const { key, record } = await makeKey(gateway, { tenant: 'team-a' });
  assert.equal(await statusOf(key), 200);
  assert.equal(gateway.router.calls.at(-1)?.request.tenant, 'team-a');
  const other = await gateway.fetch('/v1/models', undefined, { headers: { 'x-api-key': key } });
  assert.equal(other.status, 200);
  assert.equal(await statusOf('from-an-option'), 200);
  const batch = await post('cluster-secret', ask, gateway, { 'x-guildhall-tenant': 'team-b' });
  assert.equal(batch.status, 200);
  const call = gateway.router.calls.at(-1)?.request;
  assert.deepEqual([call?.tenant, call?.priority], ['team-b', -1000]);
  const usage = (await (await gateway.fetch('/v1/usage', undefined, as(key))).json()) as KeyRecord & {
    key: string;
  };
  assert.deepEqual([usage.key, usage.tenant], [record.id, 'team-a']);
});

test('what is no key is refused, whatever is wrong with it', async () => {
  const { key } = await makeKey(gateway);
  const wrong = [
    newApiKey().key,
    `${key.slice(0, -1)}${key.endsWith('x') ? 'y' : 'x'}`,
    `${key}x`,
    'gh_',
    'cluster-secret',
  ];
  for (const one of wrong) {
    const { status, code } = await refusalOf(await post(one));
    assert.deepEqual([status, code], [401, 'unauthorized'], one);
  }
  assert.equal((await gateway.fetch('/v1/models')).status, 401);
  assert.equal((await post('wrong-secret', ask, gateway, { 'x-guildhall-tenant': 'team-b' })).status, 401);
});

test('every route but the probes is guarded, and so is every path that is none', async () => {
  const tree = gateway.app.printRoutes({ commonPrefix: false });
  const lines = tree.split('\n').filter((line) => line.includes('('));
  const paths: string[] = [];
  const parents: string[] = [];
  for (const line of lines) {
    const depth = line.search(/[^│ ├└─]/) / 4;
    const [, part = '', methods = ''] = /[│ ├└─]*(\S+) \(([A-Z, ]+)\)/.exec(line) ?? [];
    parents[depth] = part;
    const path = parents
      .slice(0, depth + 1)
      .join('')
      .replaceAll(/:\w+/g, 'x')
      .replace('*', 'x/y');
    for (const method of methods.split(', ')) paths.push(`${method} ${path}`);
  }
  assert.ok(paths.includes('POST /v1/chat/completions') && paths.includes('GET /v1/usage'), paths.join());
  assert.ok(paths.length > 20);
  const open = new Set(['/health', '/ready', '/ping']);
  for (const route of [...paths, 'GET /nothing', 'DELETE /v1/chat/completions', 'OPTIONS /v1/models']) {
    const [method = '', path = ''] = route.split(' ');
    if (open.has(path)) continue;
    const headers = { 'x-forwarded-for': `10.1.${paths.indexOf(route) + 1}.1` };
    const response = await fetch(`${gateway.url}${path}`, { method, headers });
    await response.body?.cancel();
    assert.equal(response.status, 401, route);
  }
});

test('a revoked key is refused at once by the gateway that hears of it, and soon by one that does not', async () => {
  const { key, record } = await makeKey(gateway);
  for (const one of [gateway, slow]) assert.equal(await statusOf(key, one), 200);
  await gateway.accounts.keys.revoke(record.id, Date.now());
  for (const one of [gateway, slow]) await eventually(async () => (await statusOf(key, one)) === 401, 'the refusal');
  const silent = await makeKey(gateway);
  assert.equal(await statusOf(silent.key), 200);
  // Changed without a word to anybody.
  await gateway.accounts.redis.hdel(gateway.accounts.names.apiKey(silent.record.id), 'hash');
  await eventually(async () => (await statusOf(silent.key)) === 401, 'the refusal by age');
});

test('a key that is revoked under load gives answers and refusals, nothing else, and ends nothing that runs', async () => {
  const { key, record } = await makeKey(gateway);
  gateway.router.holdBeforeToken(3);
  const running = post(key, { ...ask, stream: true, max_tokens: 20 });
  await eventually(() => (gateway.router.calls.at(-1)?.sent ?? 0) === 3, 'three tokens');
  const seen = new Set<number>();
  let refused = 0;
  const others = Array.from({ length: 8 }, async () => {
    for (let i = 0; i < 500 && refused < 40; i++) {
      const { status } = await gateway.fetch('/v1/models', undefined, as(key));
      seen.add(status);
      if (status === 401) refused += 1;
    }
  });
  await gateway.accounts.keys.revoke(record.id, Date.now());
  await Promise.all(others);
  assert.ok(
    [...seen].every((status) => status === 200 || status === 401 || status === 429),
    [...seen].join(),
  );
  assert.ok(refused > 0);
  gateway.router.release();
  assert.match(await (await running).text(), /data: \[DONE\]/);
});

test('an expired key is refused, and one that is for other models', async () => {
  const old = await makeKey(gateway, { expiresAtMs: Date.now() - 1 });
  const { status, code } = await refusalOf(await post(old.key));
  assert.deepEqual([status, code], [401, 'unauthorized']);
  const { key } = await makeKey(gateway, { models: ['other'] });
  const refused = await post(key);
  assert.equal(refused.status, 403);
  assert.equal(((await refused.json()) as { error: { param: string } }).error.param, 'model');
  assert.equal((await post(key, { ...ask, model: 'other' })).status, 200);
  const list = (await (await gateway.fetch('/v1/models', undefined, as(key))).json()) as { data: { id: string }[] };
  assert.deepEqual(
    list.data.map(({ id }) => id),
    ['other'],
  );
  assert.equal((await gateway.fetch('/v1/models/tiny', undefined, as(key))).status, 403);
  assert.equal(
    (
      await gateway.fetch(
        '/v1/batches',
        { input_file_id: 'f', endpoint: '/v1/completions', completion_window: '24h' },
        as(key),
      )
    ).status,
    403,
  );
});

test('a key has a priority of its own, and lets requests ask for one up to its cap', async () => {
  const plain = await makeKey(gateway, { priority: 5 });
  const capped = await makeKey(gateway, { priority: 5, priorityCap: -2 });
  const received = async (key: string, priority?: number): Promise<number | string> => {
    const response = await post(key, priority === undefined ? ask : { ...ask, priority });
    if (response.status !== 200) return ((await response.json()) as { error: { code: string } }).error.code;
    await response.text();
    return gateway.router.calls.at(-1)?.request.priority ?? Number.NaN;
  };
  assert.equal(await received(plain.key), -5);
  assert.equal(await received(plain.key, -1), 'unsupported');
  assert.equal(await received(capped.key), -5);
  assert.equal(await received(capped.key, -2), 2);
  assert.equal(await received(capped.key, 9), -9);
  assert.equal(await received(capped.key, -3), 'invalid_value');
});

test('guessing at speed reaches Redis rarely, fills no memory, and holds nobody else up', async () => {
  const { key } = await makeKey(gateway);
  assert.equal(await statusOf(key), 200);
  const commands = async (): Promise<number> =>
    Number(/cmdstat_hmget:calls=(\d+)/.exec(await gateway.accounts.redis.info('commandstats'))?.[1] ?? 0);
  const before = await commands();
  const guesser = { 'x-forwarded-for': '192.0.2.7' };
  const statuses = new Map<number, number>();
  const guess = async (): Promise<void> => {
    for (let i = 0; i < 100; i++) {
      const response = await gateway.fetch('/v1/models', undefined, withKey(newApiKey().key, guesser));
      statuses.set(response.status, (statuses.get(response.status) ?? 0) + 1);
      if (response.status === 429) assert.ok(Number(response.headers.get('retry-after')) >= 1);
      await response.body?.cancel();
    }
  };
  const guesses = Array.from({ length: 8 }, guess);
  // Whoever is known gets through, from the same address too.
  for (let i = 0; i < 20; i++)
    assert.equal((await gateway.fetch('/v1/models', undefined, withKey(key, guesser))).status, 200);
  await Promise.all(guesses);
  assert.equal((statuses.get(401) ?? 0) + (statuses.get(429) ?? 0), 800, JSON.stringify([...statuses]));
  assert.ok((statuses.get(429) ?? 0) > 600, JSON.stringify([...statuses]));
  assert.ok((await commands()) - before < 200, `${(await commands()) - before} look-ups`);
  // Wrong secrets of a key that exists ask nobody at all.
  const third = { 'x-forwarded-for': '192.0.2.8' };
  const wrong = `${key.slice(0, -1)}${key.endsWith('x') ? 'y' : 'x'}`;
  assert.equal((await refusalOf(await post(wrong, ask, gateway, third))).status, 401);
  assert.ok(MAX_CACHED <= 10_000);
});

test('while Redis is away known keys go on, unknown ones are told to come back, and it heals', async () => {
  const { key } = await makeKey(gateway);
  const stranger = newApiKey().key;
  assert.equal(await statusOf(key), 200);
  await gateway.redis.kill();
  await eventually(async () => {
    const { status, reason } = await refusalOf(await post(stranger));
    return status === 503 && reason === 'unchecked';
  }, 'the refusal of an unknown key');
  for (let i = 0; i < 5; i++) {
    assert.equal(await statusOf(key), 200);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  assert.equal(await statusOf('from-an-option'), 200);
  await gateway.redis.restart();
  // It came back empty: the key is gone with its data.
  await eventually(async () => (await statusOf(key)) === 401, 'the refusal');
});
