import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { systemClock } from '../clock.ts';
import { eventually, RedisServer, silentLogger } from '../testing/index.ts';
import { Cluster } from './cluster.ts';

let server: RedisServer;
let cluster: Cluster;

before(async () => {
  server = await RedisServer.start();
  cluster = new Cluster({ redis: server.url, cluster: 'quarantine', clock: systemClock, logger: silentLogger() });
  await cluster.start();
});
after(async () => {
  await cluster.close();
  await server.stop();
});

test('what is quarantined is listed until its time is over, and only ever prolonged', async () => {
  const { quarantine, redis, keys } = cluster;
  let told = 0;
  const stop = quarantine.onChange(() => (told += 1));
  assert.deepEqual(await quarantine.read(), []);
  await quarantine.add('aa', 60_000);
  await quarantine.add('bb', 60_000.5);
  await quarantine.add('aa', 1000);
  const list = await quarantine.read();
  assert.deepEqual(list.map(({ fingerprint }) => fingerprint).toSorted(), ['aa', 'bb']);
  assert.ok(list.every(({ leftMs }) => leftMs > 30_000 && leftMs <= 60_001));
  await eventually(() => told === 3, 'three messages');
  await quarantine.add('cc', 1);
  await eventually(async () => (await quarantine.read()).length === 2, 'the end of one');
  await quarantine.add('dd', 1);
  assert.equal(await redis.zscore(keys.quarantine, 'cc'), null, 'what is over is forgotten');
  assert.ok((await redis.pttl(keys.quarantine)) > 30_000);
  stop();
});

test('the list is bounded: what ends first goes', async () => {
  const { quarantine, redis, keys } = cluster;
  await redis.del(keys.quarantine);
  const now = Date.now();
  await redis.zadd(
    keys.quarantine,
    ...Array.from({ length: 10_000 }, (_, i) => [now + 100_000 + i, `old-${i}`]).flat(),
  );
  await quarantine.add('new', 500_000);
  assert.equal(await redis.zcard(keys.quarantine), 10_000);
  assert.equal(await redis.zscore(keys.quarantine, 'old-0'), null);
  assert.ok((await redis.zscore(keys.quarantine, 'new')) !== null);
});

test('one holder at a time has the place in a router', async () => {
  const { quarantine } = cluster;
  assert.ok(await quarantine.hold('router-1', 'a', 60_000));
  assert.ok(await quarantine.hold('router-1', 'a', 60_000));
  assert.ok(!(await quarantine.hold('router-1', 'b', 60_000)));
  assert.ok(await quarantine.hold('router-2', 'b', 60_000));
  await quarantine.letGo('router-1', 'b');
  assert.ok(!(await quarantine.hold('router-1', 'b', 60_000)));
  await quarantine.letGo('router-1', 'a');
  assert.ok(await quarantine.hold('router-1', 'b', 20));
  await eventually(() => quarantine.hold('router-1', 'a', 60_000), 'the end of the lease');
});
