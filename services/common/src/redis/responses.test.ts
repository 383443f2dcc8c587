import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { systemClock } from '../clock.ts';
import { eventually, RedisServer, silentLogger } from '../testing/index.ts';
import { Cluster } from './cluster.ts';
import type { ResponseLimits, ResponseStore, StoredResponse } from './responses.ts';

let server: RedisServer;
let cluster: Cluster;
let store: ResponseStore;
const LIMITS: ResponseLimits = { ttlMs: 60_000, tenantBytes: 100_000, maxBackground: 2 };

before(async () => {
  server = await RedisServer.start();
  cluster = new Cluster({ redis: server.url, cluster: 'responses', clock: systemClock, logger: silentLogger() });
  await cluster.start();
  store = cluster.responses;
});
after(async () => {
  await cluster.close();
  await server.stop();
});

function response(id: string, extra: Partial<StoredResponse> = {}): StoredResponse {
  const texts = { head: '{}', input: `["${id} in"]`, output: `["${id} out"]`, job: '' };
  return { id, tenant: 'one', status: 'completed', previous: '', ...texts, deaths: 0, ...extra };
}

test('a response belongs to one tenant, and is gone after its time', async () => {
  await store.put(response('a'), LIMITS);
  assert.deepEqual(await store.get('one', 'a'), response('a'));
  assert.equal(await store.get('two', 'a'), null);
  assert.equal(await store.delete('two', 'a'), false);
  await store.put(response('b'), { ...LIMITS, ttlMs: 20 });
  await eventually(async () => (await store.get('one', 'b')) === null, 'the end of its time');
  assert.equal(await store.delete('one', 'a'), true);
  assert.equal(await store.get('one', 'a'), null);
  assert.equal(
    await cluster.redis.zcard(cluster.keys.responsesOf('one')),
    1,
    'what is over is counted until the next one',
  );
  await store.put(response('c'), LIMITS);
  assert.equal(await cluster.redis.zcard(cluster.keys.responsesOf('one')), 1);
  await store.delete('one', 'c');
  assert.equal(await cluster.redis.get(cluster.keys.responseBytesOf('one')), '0');
});

test('a tenant keeps so many bytes: what was used longest ago goes, of others nothing', async () => {
  const limits = { ...LIMITS, tenantBytes: 3000 };
  const big = (id: string, tenant = 'full'): StoredResponse =>
    response(id, { tenant, output: `["${'x'.repeat(900)}"]` });
  await store.put(big('other', 'others'), limits);
  for (const id of ['p', 'q', 'r']) await store.put(big(id), limits);
  // Going on from the oldest keeps it.
  await store.chain('full', 'p', 120_000);
  await store.put(big('s'), limits);
  assert.notEqual(await store.get('full', 'p'), null);
  assert.equal(await store.get('full', 'q'), null);
  assert.notEqual(await store.get('full', 's'), null);
  assert.notEqual(await store.get('others', 'other'), null);
  const bytes = Number(await cluster.redis.get(cluster.keys.responseBytesOf('full')));
  assert.ok(bytes > 1800 && bytes <= 3000, String(bytes));
});

test('a conversation is read from its first item on; a gap and another tenant end it', async () => {
  await store.put(response('1'), LIMITS);
  await store.put(response('2', { previous: '1' }), LIMITS);
  await store.put(response('3', { previous: '2' }), LIMITS);
  const chain = await store.chain('one', '3', 60_000);
  assert.deepEqual(chain, {
    items: ['1 in', '1 out', '2 in', '2 out', '3 in', '3 out'].map((t) => `["${t}"]`),
    fault: null,
  });
  assert.deepEqual(await store.chain('two', '3', 60_000), { fault: 'missing', id: '3' });
  await store.delete('one', '2');
  assert.deepEqual(await store.chain('one', '3', 60_000), { fault: 'missing', id: '2' });
});

test('a background response has one owner at a time, and what another one writes does not count', async () => {
  const queued = response('bg', { status: 'queued', job: '{}' });
  assert.equal(await store.begin(queued, '', 1000, LIMITS), true);
  assert.deepEqual(await store.claim('x', 60_000, 10), ['bg']);
  assert.deepEqual(await store.claim('y', 60_000, 10), [], 'it has an owner');
  assert.equal(await store.append('bg', 'y', 60_000, 'no'), false);
  assert.equal(await store.append('bg', 'x', 60_000, 'e1'), true);
  assert.equal(await store.status('bg'), 'in_progress');
  assert.deepEqual(await store.chain('one', 'bg', 1000), { fault: 'running', id: 'bg' });
  assert.equal(await store.release('bg', 'x'), true);
  assert.deepEqual(await store.claim('y', 1, 10), ['bg']);
  assert.equal((await store.claimed('bg'))?.deaths, 0, 'it was given up');
  const again = await eventually(async () => (await store.claim('z', 60_000, 10))[0], 'the end of the lease');
  assert.equal(again, 'bg');
  assert.equal((await store.claimed('bg'))?.deaths, 1);
  assert.equal(await store.finish({ ...queued, status: 'completed' }, 'y'), false);
  assert.equal(await store.finish({ ...queued, status: 'completed' }, 'z'), true);
  assert.equal(await store.finish({ ...queued, status: 'cancelled' }, ''), false, 'it is over');
  assert.deepEqual(await store.log('bg', 0), ['e1']);
  assert.equal((await store.get('one', 'bg'))?.job, '', 'what it was made from is forgotten');
  assert.deepEqual(await store.claim('w', 1000, 10), []);
});

test('only so many background responses wait or run', async () => {
  for (const id of ['b1', 'b2'])
    assert.equal(await store.begin(response(id, { status: 'queued' }), '', 1, LIMITS), true);
  assert.equal(await store.begin(response('b3', { status: 'queued' }), '', 1, LIMITS), false);
  assert.equal(await store.get('one', 'b3'), null);
  await store.delete('one', 'b1');
  assert.equal(await store.begin(response('b3', { status: 'queued' }), '', 1, LIMITS), true);
});
