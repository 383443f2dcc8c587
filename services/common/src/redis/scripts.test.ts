import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import type { Redis } from 'ioredis';
import { systemClock } from '../clock.ts';
import { eventually, RedisServer, silentLogger } from '../testing/index.ts';
import { connectRedis } from './client.ts';
import { redisKeys } from './keys.ts';
import { runScript, SCRIPTS } from './scripts.ts';

let server: RedisServer;
let redis: Redis;

before(async () => {
  server = await RedisServer.start();
  redis = connectRedis(server.url, { logger: silentLogger(), clock: systemClock });
  await eventually(() => redis.status === 'ready', 'connection');
});

after(async () => {
  redis.disconnect();
  await server.stop();
});

test('each script file is registered, and its name, head comment and text agree on the keys', () => {
  const folder = new URL('./scripts/', import.meta.url);
  const files = readdirSync(folder);
  assert.deepEqual(
    files.sort(),
    Object.entries(SCRIPTS)
      .map(([name, keys]) => `${name}-${keys}.lua`)
      .sort(),
  );
  for (const file of files) {
    const text = readFileSync(new URL(file, folder), 'utf8');
    const head = text
      .split('\n')
      .filter((line) => line.startsWith('--'))
      .join('\n');
    const body = text
      .split('\n')
      .filter((line) => !line.startsWith('--'))
      .join('\n');
    const numbers = (source: string, word: string): string[] =>
      [...new Set([...source.matchAll(new RegExp(`${word}\\[(\\d+)\\]`, 'g'))].map((m) => m[1] ?? ''))].sort();
    const keys = Number(/-(\d+)\.lua$/.exec(file)?.[1]);
    assert.deepEqual(
      numbers(head, 'KEYS'),
      Array.from({ length: keys }, (_, i) => String(i + 1)),
      `${file}: KEYS in the head`,
    );
    assert.deepEqual(numbers(body, 'KEYS'), numbers(head, 'KEYS'), `${file}: KEYS used`);
    assert.deepEqual(numbers(body, 'ARGV'), numbers(head, 'ARGV'), `${file}: ARGV used`);
    assert.match(head, /-- Returns /, file);
  }
});

test('a script runs before and after Redis knows it', async () => {
  const keys = redisKeys('scripts');
  const run = (): Promise<unknown> => runScript(redis, 'loads-read', [keys.loads], [keys.loadPrefix]);
  await redis.script('FLUSH');
  assert.deepEqual(await run(), []);
  assert.deepEqual(await run(), []);
});

test('bytes go in and come out as they were', async () => {
  const keys = redisKeys('bytes');
  const bytes = Uint8Array.from({ length: 256 }, (_, i) => i);
  await runScript(redis, 'load-report', [keys.load('r'), keys.loads], ['r', bytes, 10_000]);
  const [, stored] = (await runScript(redis, 'loads-read', [keys.loads], [keys.loadPrefix])) as Buffer[];
  assert.deepEqual(new Uint8Array(stored ?? []), bytes);
});

test('a wrong number of keys is a defect, an error of Redis is redis_unavailable', async () => {
  await assert.rejects(runScript(redis, 'loads-read', [], []), { code: 'internal' });
  await redis.set('{x}string', 'not a set');
  await assert.rejects(runScript(redis, 'loads-read', ['{x}string'], ['{x}']), { code: 'redis_unavailable' });
});

test('all keys of a cluster share one slot', () => {
  const keys = redisKeys('prod');
  const names = [
    keys.member('expert', 'e1'),
    keys.members,
    keys.memberPrefix,
    keys.generation,
    keys.epochCurrent,
    keys.placement(3),
    keys.leader,
    keys.leaderFence,
    keys.load('r'),
    keys.loads,
    keys.pages('r'),
    keys.pagesPrefix,
    keys.pageLeases('r'),
    keys.pageHolders,
    keys.pageFence,
    keys.pageOwner('r'),
    keys.status('controller'),
    keys.events,
  ];
  for (const name of names) assert.ok(name.startsWith('gh:{prod}:'), name);
  assert.equal(new Set(names).size, names.length);
});
