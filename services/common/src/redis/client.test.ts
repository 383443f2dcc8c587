import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock } from '../clock.ts';
import { eventually, freePort, RedisServer, silentLogger } from '../testing/index.ts';
import { connectRedis } from './client.ts';
import { ClusterEvents, type ClusterEvent } from './events.ts';
import { redisKeys } from './keys.ts';

const options = { logger: silentLogger(), clock: systemClock };

test('a client whose server does not exist fails its commands at once and throws nothing by itself', async () => {
  const redis = connectRedis(`redis://127.0.0.1:${await freePort()}`, options);
  await assert.rejects(redis.get('x'));
  redis.disconnect();
});

test('a client and a subscription find a server that was killed and came back', async () => {
  const server = await RedisServer.start();
  const redis = connectRedis(server.url, options);
  const keys = redisKeys('client');
  const events = new ClusterEvents(redis, keys);
  const seen: ClusterEvent[] = [];
  const stop = events.on((event) => void seen.push(event));
  try {
    const publish = (message: string): Promise<boolean> =>
      redis.publish(keys.events, message).then(
        (n) => n > 0,
        () => false,
      );
    await eventually(() => publish('members'), 'subscription');
    await server.kill();
    await eventually(
      () =>
        redis.get('x').then(
          () => false,
          () => true,
        ),
      'failure',
    );
    await server.restart();
    await eventually(() => publish('epoch'), 'subscription again');
    await publish('leave:expert/a/b');
    await publish('nonsense');
    await eventually(() => seen.some((event) => event.type === 'leave'), 'events');
    assert.deepEqual(seen[0], { type: 'members' });
    assert.deepEqual(seen.at(-1), { type: 'leave', kind: 'expert', id: 'a/b' });
    stop();
    const count = seen.length;
    await publish('members');
    await redis.get('x');
    assert.equal(seen.length, count);
  } finally {
    events.close();
    redis.disconnect();
    await server.stop();
  }
});

test('commands to a server that hangs fail, and work again when it goes on', async () => {
  const server = await RedisServer.start();
  const redis = connectRedis(server.url, options);
  try {
    await eventually(
      () =>
        redis.set('x', '1').then(
          () => true,
          () => false,
        ),
      'connection',
    );
    server.pause();
    await assert.rejects(redis.get('x'));
    // Longer than the socket timeout: connections are replaced while the server hangs.
    for (let i = 0; i < 5; i++) await redis.get('x').catch(() => systemClock.sleep(200));
    server.resume();
    await eventually(
      () =>
        redis.get('x').then(
          (value) => value === '1',
          () => false,
        ),
      'answers',
    );
  } finally {
    redis.disconnect();
    await server.stop();
  }
});
