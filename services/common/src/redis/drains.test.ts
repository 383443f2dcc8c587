import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { systemClock } from '../clock.ts';
import { eventually, RedisServer, silentLogger } from '../testing/index.ts';
import { Cluster } from './cluster.ts';
import type { DrainRequest } from './drains.ts';

let server: RedisServer;
let home: Cluster;
let count = 0;

before(async () => {
  server = await RedisServer.start();
});
after(async () => {
  await home.close();
  await server.stop();
});
beforeEach(async () => {
  await home?.close();
  const options = { redis: server.url, clock: systemClock, logger: silentLogger() };
  home = new Cluster({ ...options, cluster: `drains-${count++}` });
  await eventually(() => home.redis.status === 'ready', 'connection');
});

function requestOf(id: string, fields: Partial<DrainRequest> = {}): DrainRequest {
  return { tag: `expert/${id}`, by: 'somebody', atMs: 1000, state: 'asked', keeps: 0, why: '', ...fields };
}

test('a request stays as it was first made, until it is taken back', async () => {
  const { drains } = home;
  assert.equal(await drains.request(requestOf('e1')), true);
  assert.equal(await drains.request(requestOf('e1', { by: 'another', atMs: 2000 })), false);
  assert.deepEqual([...(await drains.read()).requests.values()], [requestOf('e1')]);
  assert.equal(await drains.cancel('expert/e1'), true);
  assert.equal(await drains.cancel('expert/e1'), false);
  assert.equal((await drains.read()).requests.size, 0);
});

test('what came of a request is noted only on the request that was read', async () => {
  const { drains } = home;
  const asked = requestOf('e1');
  await drains.request(asked);
  assert.equal(await drains.mark(asked, { state: 'moving', keeps: 5, why: 'waits for router-1' }), true);
  assert.equal(await drains.mark(asked, { state: 'done', keeps: 0, why: '' }), false, 'it has changed');
  const moving = (await drains.read()).requests.get('expert/e1');
  assert.deepEqual(moving, requestOf('e1', { state: 'moving', keeps: 5, why: 'waits for router-1' }));
  await drains.cancel('expert/e1');
  await drains.request(requestOf('e1', { atMs: 3000 }));
  assert.equal(await drains.mark(moving as DrainRequest, { state: 'done', keeps: 0, why: '' }), false, 'another one');
});

test('each change is told to who listens', async () => {
  const told: string[] = [];
  const off = home.events.on((event) => void told.push(event.type));
  await eventually(async () => {
    await home.redis.publish(home.keys.events, 'drains');
    return told.length > 0;
  }, 'the subscription');
  await new Promise((resolve) => setTimeout(resolve, 50));
  told.length = 0;
  await home.drains.request(requestOf('e1'));
  await home.drains.request(requestOf('e1'));
  await home.drains.mark(requestOf('e1'), { state: 'done', keeps: 0, why: '' });
  await home.drains.cancel('expert/e1');
  await home.drains.cancel('expert/e1');
  await eventually(() => told.length >= 3, 'three messages');
  assert.deepEqual(told, ['drains', 'drains', 'drains']);
  off();
});

test('an entry that cannot be read is passed over, and lost data shows as another generation', async () => {
  const { drains, redis, keys } = home;
  await drains.request(requestOf('e1'));
  await redis.hset(
    keys.drains,
    'expert/e2',
    '{',
    'expert/e3',
    '{"by":"x","atMs":1,"state":"flying"}',
    'expert/e4',
    '7',
  );
  const before_ = await drains.read();
  assert.deepEqual([...before_.requests.keys()], ['expert/e1']);
  assert.match(before_.generation, /./);
  await redis.flushall();
  const after_ = await drains.read();
  assert.notEqual(after_.generation, before_.generation);
  assert.equal(after_.requests.size, 0);
});

test('with Redis away every call says so', async () => {
  await server.kill();
  for (const call of [() => home.drains.read(), () => home.drains.cancel('expert/e1')])
    await assert.rejects(call, { code: 'redis_unavailable' });
  await server.restart();
});
