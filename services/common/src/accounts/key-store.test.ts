import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, before, test } from 'node:test';
import { systemClock } from '../clock.ts';
import { eventually, PLAIN_KEY, RedisServer, silentLogger } from '../testing/index.ts';
import { Accounts } from './accounts.ts';
import { apiKeyId, newApiKey } from './key-record.ts';

let server: RedisServer;
let accounts: Accounts;

before(async () => {
  server = await RedisServer.start();
  accounts = new Accounts({ redis: server.url, name: 'keys', clock: systemClock, logger: silentLogger() });
  await eventually(() => accounts.redis.status === 'ready', 'connection');
});
after(async () => {
  accounts.close();
  await server.stop();
});

test('keys have a form of their own, an id within it, and are never the same', () => {
  const made = Array.from({ length: 1000 }, () => newApiKey());
  assert.equal(new Set(made.map(({ key }) => key)).size, 1000);
  for (const { id, key } of made) {
    assert.match(key, /^gh_[0-9a-z]{12}_[0-9A-Za-z]{43}$/);
    assert.equal(apiKeyId(key), id);
  }
  for (const text of ['', 'gh_', 'gh_short_x', 'sk-1234', `${made[0]?.key}x`, `x${made[0]?.key}`])
    assert.equal(apiKeyId(text), null, text);
});

test('a key is stored as its hash only', async () => {
  const { key, record } = await accounts.keys.create({ ...PLAIN_KEY, tenant: 'team', requestsPerMinute: 5 }, 1000);
  const stored = await accounts.keys.read(record.id);
  assert.deepEqual(stored?.record, record);
  assert.deepEqual(stored.hash, createHash('sha256').update(key).digest());
  assert.equal(record.tenant, 'team');
  for (const name of await accounts.redis.keys('*')) {
    const values =
      (await accounts.redis.type(name)) === 'hash' ? Object.values(await accounts.redis.hgetall(name)) : [name];
    assert.ok(values.every((value) => !value.includes(key.slice(-20))));
  }
});

test('a key without a tenant is one of its own', async () => {
  const [one, two] = [await accounts.keys.create(PLAIN_KEY, 1), await accounts.keys.create(PLAIN_KEY, 2)];
  assert.notEqual(one.record.tenant, two.record.tenant);
});

test('keys are listed by age; a revoked one loses its hash at once and its entry later', async () => {
  const made = await accounts.keys.create(PLAIN_KEY, 5000);
  const { id } = made.record;
  const told: string[] = [];
  const off = accounts.onKey((changed) => void told.push(changed));
  await eventually(async () => {
    await accounts.redis.publish(accounts.names.events, 'key:probe');
    return told.includes('probe');
  }, 'the subscription');
  assert.equal((await accounts.keys.change(id, { requestsPerMinute: 7 })).requestsPerMinute, 7);
  assert.equal((await accounts.keys.revoke(id, 6000)).revokedAtMs, 6000);
  await eventually(() => told.filter((changed) => changed === id).length === 2, 'both changes to be told');
  off();
  const stored = await accounts.keys.read(id);
  assert.deepEqual([stored?.hash, stored?.record.requestsPerMinute], [null, 7]);
  assert.ok((await accounts.redis.pttl(accounts.names.apiKey(id))) > 0);
  for (const act of [() => accounts.keys.revoke(id, 1), () => accounts.keys.change(id, { name: 'x' })])
    await assert.rejects(act, { code: 'not_found' });
  const list = await accounts.keys.list();
  assert.equal(list.at(-1)?.id, id);
  await accounts.redis.del(accounts.names.apiKey(id));
  assert.ok((await accounts.keys.list()).every((record) => record.id !== id));
  assert.equal(await accounts.redis.zscore(accounts.names.apiKeys, id), null);
});

test('two changes at the same time are both made', async () => {
  const { record } = await accounts.keys.create(PLAIN_KEY, 1);
  const changes = [{ name: 'new' }, { requestsPerMinute: 3 }, { concurrency: 4 }];
  await Promise.all(changes.map((change) => accounts.keys.change(record.id, change)));
  const read = await accounts.keys.read(record.id);
  assert.deepEqual([read?.record.name, read?.record.requestsPerMinute, read?.record.concurrency], ['new', 3, 4]);
});

test('a record that cannot be read is no key', async () => {
  for (const text of ['', '{', '7', '{"id":"x"}', '{"id":"x","tenant":"a/b","createdAtMs":1}']) {
    await accounts.redis.hset(accounts.names.apiKey('odd'), 'hash', '00', 'record', text);
    assert.equal(await accounts.keys.read('odd'), null, text);
  }
});

test('with Redis away every call says so', async () => {
  await server.kill();
  const calls = [() => accounts.keys.read('x'), () => accounts.keys.list(), () => accounts.keys.create(PLAIN_KEY, 1)];
  for (const call of calls) await assert.rejects(call, { code: 'redis_unavailable' });
  await server.restart();
});
