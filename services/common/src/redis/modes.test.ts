import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Redis } from 'ioredis';
import { systemClock } from '../clock.ts';
import { eventually, RedisNodes, RedisSentinels, RedisServer, silentLogger } from '../testing/index.ts';
import type { RedisAccess } from './client.ts';
import { Cluster } from './cluster.ts';

const logger = silentLogger();
const NO_FILES = { tlsCert: null, tlsKey: null, redisCa: null };

/** A cluster of Guildhall with one member that renews often, and another process that watches. */
class Pair {
  readonly member: Cluster;
  readonly watcher: Cluster;
  /** Set when the member was told to stop being itself. */
  lost: Error | null = null;
  /** Every moment in which the watcher, sure of its list, did not list the member. */
  gaps = 0;
  renewals = 0;
  #armed = false;

  constructor(redis: string, access: RedisAccess | null = null) {
    const options = { redis, access, cluster: 'modes', clock: systemClock, logger };
    this.member = new Cluster(options);
    this.watcher = new Cluster(options);
    this.watcher.members.onChange(() => {
      if (this.#armed && !this.watcher.members.stale && !this.listed) this.gaps += 1;
    });
  }

  get listed(): boolean {
    return this.watcher.members.members().some(({ kind, id }) => kind === 'expert' && id === 'e1');
  }

  async start(): Promise<void> {
    await Promise.all([this.member.start(), this.watcher.start()]);
    const lease = this.member.lease({
      kind: 'expert',
      id: 'e1',
      incarnation: 7n,
      value: () => Buffer.from('a worker'),
      renewMs: 200,
      leaseMs: 2000,
      onLost: (err) => (this.lost = err),
      onRenew: (up) => (this.renewals += up ? 1 : 0),
    });
    await lease.join();
    await eventually(() => this.listed, 'the member to be listed');
    this.#armed = true;
  }

  /** Resolves when the lease was renewed anew and the watcher knows again. */
  async goesOn(): Promise<void> {
    const before = this.renewals;
    await eventually(() => this.renewals >= before + 2 && !this.watcher.members.stale && this.listed, 'life to go on');
    assert.equal(this.lost, null);
    assert.equal(this.gaps, 0);
  }

  /** Resolves when an event that one process publishes has reached the other. */
  async hears(): Promise<void> {
    let heard = false;
    const off = this.watcher.events.on((event) => (heard ||= event.type === 'drains'));
    await eventually(async () => {
      await this.member.redis.publish(this.member.keys.events, 'drains').catch(() => 0);
      return heard;
    }, 'an event');
    off();
  }

  async stop(): Promise<void> {
    await this.member.close();
    await this.watcher.close();
  }
}

const answers = (redis: Redis): Promise<boolean> =>
  redis.set('x', '1').then(
    () => true,
    () => false,
  );

test('sentinels: the master dies, another one takes over, and leases, views and events go on', async () => {
  const redis = await RedisSentinels.start();
  await redis.settled();
  const pair = new Pair(redis.url);
  try {
    await pair.start();
    await pair.hears();
    await redis.master.kill();
    await pair.goesOn();
    await pair.hears();
    // The old master comes back, empty, and becomes the replica.
    await redis.master.restart();
    await pair.goesOn();
  } finally {
    await pair.stop();
    await redis.stop();
  }
});

test('sentinels: a master that is replaced while it lives is left for its successor', async () => {
  const redis = await RedisSentinels.start();
  await redis.settled();
  const pair = new Pair(redis.url);
  try {
    await pair.start();
    await pair.hears();
    assert.equal(pair.member.redis.stream.remotePort, redis.master.port);
    await redis.failOver();
    await eventually(() => pair.member.redis.stream.remotePort === redis.replica.port, 'the client to follow');
    await pair.goesOn();
    await pair.hears();
  } finally {
    await pair.stop();
    await redis.stop();
  }
});

test('a client whose server has become a replica ends the connection and looks again', async () => {
  const [server, other] = [await RedisServer.start(), await RedisServer.start()];
  const client = new Pair(server.url);
  const admin = new Pair(server.url);
  try {
    for (const { member } of [client, admin]) await eventually(() => answers(member.redis), 'the connection');
    let closed = 0;
    client.member.redis.on('close', () => (closed += 1));
    await admin.member.redis.call('REPLICAOF', '127.0.0.1', String(other.port));
    await assert.rejects(client.member.redis.set('x', '2'), /READONLY/);
    await eventually(() => closed > 0, 'the connection to end');
    await admin.member.redis.call('REPLICAOF', 'NO', 'ONE');
    await eventually(() => answers(client.member.redis), 'the client to be back');
  } finally {
    await client.stop();
    await admin.stop();
    await server.stop();
    await other.stop();
  }
});

test('a Redis Cluster: the slot moves, half moved and then wholly, and leases, views and events go on', async () => {
  const redis = await RedisNodes.start();
  const pair = new Pair(redis.url);
  try {
    await pair.start();
    await pair.hears();
    const slot = await redis.slotOf(pair.member.keys.members);
    const from = await redis.ownerOf(slot);
    assert.equal(pair.member.redis.stream.remotePort, from.server.port);
    const to = redis.nodes.find((node) => node !== from);
    assert.ok(to !== undefined);
    await redis.beginMove(slot, from, to, 0.5);
    // Neither node can serve a script whose keys are apart; nobody is taken for dead for it.
    await eventually(() => pair.watcher.members.stale, 'the watcher to be unsure');
    assert.ok(pair.listed);
    await redis.finishMove(slot, from, to);
    await pair.goesOn();
    assert.equal(pair.member.redis.stream.remotePort, to.server.port);
    await pair.hears();
  } finally {
    await pair.stop();
    await redis.stop();
  }
});

test('a Redis Cluster: the node of the slot dies, its replica takes over, and life goes on', async () => {
  const redis = await RedisNodes.start();
  const pair = new Pair(redis.url);
  try {
    await pair.start();
    const slot = await redis.slotOf(pair.member.keys.members);
    const owner = await redis.ownerOf(slot);
    await redis.replicate(owner);
    await owner.server.kill();
    await pair.goesOn();
    await pair.hears();
  } finally {
    await pair.stop();
    await redis.stop();
  }
});

/** The rights that docs/redis.md names. */
const RIGHTS = ['~gh:{modes}:*', '&gh:{modes}:*', '+@all', '-@admin', '-@dangerous', '+info'];

async function withUser(run: (redis: RedisServer, admin: Redis) => Promise<void>): Promise<void> {
  const redis = await RedisServer.start();
  const admin = new Pair(redis.url);
  try {
    await eventually(() => answers(admin.member.redis), 'the connection');
    await admin.member.redis.call('ACL', 'SETUSER', 'guildhall', 'on', '>pass:word@1', ...RIGHTS);
    await admin.member.redis.call('ACL', 'SETUSER', 'default', '>admins-only');
    await run(redis, admin.member.redis);
  } finally {
    await admin.stop();
    await redis.stop();
  }
}

test('a user with the documented rights is enough, by options or by the URL', async () => {
  await withUser(async (redis, admin) => {
    const access = { ...NO_FILES, redisUsername: 'guildhall', redisPassword: 'pass:word@1' };
    for (const pair of [
      new Pair(redis.url, access),
      new Pair(`redis://guildhall:${encodeURIComponent('pass:word@1')}@127.0.0.1:${redis.port}`),
    ]) {
      try {
        await pair.start();
        await pair.hears();
        pair.member.eventLog.append('leader', 'test', 'somebody leads');
        await pair.member.eventLog.flushed();
        assert.equal((await pair.watcher.eventLog.tail(1)).length, 1);
      } finally {
        await pair.stop();
      }
      await admin.flushall();
    }
  });
});

test('a wrong password, a user without rights and no password at all end the start with the reason', async () => {
  await withUser(async (redis, admin) => {
    await admin.call('ACL', 'SETUSER', 'weak', 'on', '>weak-weak', '~other:*', '+@all');
    const cases: [string, Partial<RedisAccess>, RegExp][] = [
      [redis.url, { redisUsername: 'guildhall', redisPassword: 'wrong' }, /WRONGPASS/],
      [redis.url, {}, /NOAUTH/],
      [redis.url, { redisUsername: 'weak', redisPassword: 'weak-weak' }, /NOPERM/],
    ];
    for (const [url, access, message] of cases) {
      const pair = new Pair(url, { ...NO_FILES, ...access });
      await assert.rejects(pair.start(), { code: 'redis_denied', message });
      await pair.stop();
    }
  });
});

test('a password that is changed while processes run takes nobody out of the list', async () => {
  await withUser(async (redis, admin) => {
    const pair = new Pair(redis.url, { ...NO_FILES, redisUsername: 'guildhall', redisPassword: 'pass:word@1' });
    try {
      await pair.start();
      await admin.call('ACL', 'SETUSER', 'guildhall', 'resetpass', '>new-password');
      await admin.call('CLIENT', 'KILL', 'USER', 'guildhall');
      await eventually(() => pair.watcher.members.stale, 'the watcher to be unsure');
      assert.ok(pair.listed);
      await admin.call('ACL', 'SETUSER', 'guildhall', '>pass:word@1');
      await pair.goesOn();
    } finally {
      await pair.stop();
    }
  });
});
