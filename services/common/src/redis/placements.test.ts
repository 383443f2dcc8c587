import assert from 'node:assert/strict';
import { after, afterEach, before, beforeEach, test } from 'node:test';
import { systemClock } from '../clock.ts';
import { eventually, RedisServer, silentLogger } from '../testing/index.ts';
import { Cluster } from './cluster.ts';
import { LeaderLock } from './leader.ts';

const logger = silentLogger();
let server: RedisServer;
let home: Cluster;
let locks: LeaderLock[];
let count = 0;

before(async () => {
  server = await RedisServer.start();
});
after(() => server.stop());

beforeEach(async () => {
  locks = [];
  home = new Cluster({ redis: server.url, cluster: `placements-${count++}`, clock: systemClock, logger });
  await eventually(() => home.redis.status === 'ready', 'connection');
});
afterEach(async () => {
  for (const lock of locks) await lock.stop();
  await home.close();
});

function lock(owner: string, onChange?: (leading: boolean) => void): LeaderLock {
  const made = new LeaderLock({
    redis: home.redis,
    keys: home.keys,
    clock: systemClock,
    logger,
    owner,
    leaseMs: 900,
    renewMs: 150,
  });
  if (onChange !== undefined) made.onChange(onChange);
  locks.push(made);
  return made;
}

function leads(of: LeaderLock): boolean {
  return of.fence !== null;
}

async function lead(owner: string): Promise<{ owner: string; fence: number }> {
  const made = lock(owner);
  await made.start();
  return eventually(() => made.fence, `${owner} to lead`);
}

test('a placement is published once under each number, by the leader, after the expected one', async () => {
  const store = home.placementStore;
  const fence = await lead('a');
  assert.equal(await store.current(), null);
  assert.equal(await store.publish(0, 1, Buffer.from('one'), fence), 'published');
  assert.equal(await store.publish(0, 1, Buffer.from('again'), fence), 'conflict');
  assert.equal(await store.publish(1, 1, Buffer.from('again'), fence), 'number_taken');
  assert.equal(await store.publish(1, 5, Buffer.from('five'), fence), 'published');
  assert.deepEqual(await store.current(), { epoch: 5, bytes: Buffer.from('five') });
  assert.deepEqual(await store.read(1), { epoch: 1, bytes: Buffer.from('one') });
  assert.ok((await home.redis.pttl(home.keys.placement(1))) > 0);
  assert.equal(await home.redis.pttl(home.keys.placement(5)), -1);
});

test('who does not lead publishes nothing', async () => {
  const store = home.placementStore;
  const fence = await lead('a');
  assert.equal(await store.publish(0, 1, Buffer.from('x'), { ...fence, owner: 'b' }), 'not_leader');
  assert.equal(await store.publish(0, 1, Buffer.from('x'), { ...fence, fence: fence.fence + 1 }), 'not_leader');
  await locks[0]?.stop();
  assert.equal(await store.publish(0, 1, Buffer.from('x'), fence), 'not_leader');
  assert.equal(await store.current(), null);
});

test('of many publishers racing for a number one wins', async () => {
  const fence = await lead('a');
  const results = await Promise.all(
    Array.from({ length: 20 }, (_, i) => home.placementStore.publish(0, 1 + (i % 3), Buffer.from(String(i)), fence)),
  );
  assert.equal(results.filter((result) => result === 'published').length, 1);
});

test('one leads; the other takes over after a release at once, after a death when the lease ends, with a larger fence', async () => {
  const a = lock('a');
  const b = lock('b');
  await a.start();
  await b.start();
  const first = a.fence?.fence ?? 0;
  assert.ok(first > 0);
  assert.ok(!leads(b));
  await a.stop();
  b.check();
  const second = await eventually(() => b.fence, 'b to lead');
  assert.ok(second.fence > first);
  // A lock that nobody renews is what a dead leader leaves.
  await home.redis.hset(home.keys.leader, 'owner', 'dead');
  await eventually(() => !leads(b), 'b to notice');
  const third = await eventually(() => b.fence, 'b to lead again');
  assert.ok(third.fence > second.fence);
});

test('a leader that cannot renew gives up by itself', async () => {
  const changes: boolean[] = [];
  const a = lock('a', (leading) => void changes.push(leading));
  await a.start();
  assert.ok(a.fence);
  server.pause();
  await eventually(() => !leads(a), 'a to give up');
  server.resume();
  await eventually(() => a.fence, 'a to lead again');
  assert.deepEqual(changes, [true, false, true]);
});

test('a view takes newer placements only, and keeps what it knows when Redis loses its data', async () => {
  const store = home.placementStore;
  const view = home.placements;
  await view.start();
  assert.equal(view.current(), null);
  assert.equal(view.stale, false);
  const seen: number[] = [];
  view.onChange((placement) => void seen.push(placement.epoch));
  const fence = await lead('a');
  await store.publish(0, 7, Buffer.from('seven'), fence);
  await eventually(() => view.current()?.epoch === 7, 'epoch 7');
  await home.redis.flushall();
  const again = await eventually(() => (locks[0]?.fence === undefined ? null : lead('b')), 'a leader after the loss');
  assert.equal(await store.publish(0, 3, Buffer.from('three'), again), 'published');
  await systemClock.sleep(1200);
  assert.equal(view.current()?.epoch, 7);
  assert.equal(await store.publish(3, 8, Buffer.from('eight'), again), 'published');
  await eventually(() => view.current()?.bytes.toString() === 'eight', 'epoch 8');
  assert.deepEqual(seen, [7, 8]);
});

test('load reports are replaced, listed by reporter and forgotten', async () => {
  const { loads } = home;
  await loads.report('router-2', Buffer.from('b'));
  await loads.report('router-1', Buffer.from('old'));
  await loads.report('router-1', Buffer.from('a'));
  await loads.report('gone', Buffer.from('x'), 1);
  await systemClock.sleep(5);
  assert.deepEqual(await loads.read(), [
    { reporter: 'router-1', bytes: Buffer.from('a') },
    { reporter: 'router-2', bytes: Buffer.from('b') },
  ]);
  assert.deepEqual((await home.redis.smembers(home.keys.loads)).sort(), ['router-1', 'router-2']);
});
