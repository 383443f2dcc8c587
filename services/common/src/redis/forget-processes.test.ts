import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Redis } from 'ioredis';
import { systemClock } from '../clock.ts';
import { RedisServer, silentLogger } from '../testing/index.ts';
import { forgetProcesses } from './forget-processes.ts';
import { accountKeys, redisKeys } from './keys.ts';

const CLUSTER = 'one';
const keys = redisKeys(CLUSTER);
const accounts = accountKeys(CLUSTER);

/** What is kept. A name that is added to the keys and that people rely on belongs here as well. */
const KEPT = [
  accounts.apiKey('a'),
  accounts.apiKeys,
  accounts.quota('key:a'),
  accounts.usage(1),
  accounts.usageSource('s'),
  keys.file('f'),
  keys.filesOf('t'),
  keys.filesByExpiry,
  keys.upload('u'),
  keys.uploadParts('u'),
  keys.uploadsOf('t'),
  keys.uploadsByExpiry,
  keys.batch('b'),
  keys.batchesOf('t'),
  keys.batchesRunning,
  keys.batchDone('b'),
  keys.batchSegments('b'),
  `${keys.queues}:batches:wait`,

  keys.response('r'),
  keys.responseLog('r'),
  keys.responsesOf('t'),
  keys.responseBytesOf('t'),
  keys.responsesRunning,
];
const FORGOTTEN = [
  keys.member('expert', 'e'),
  keys.members,
  keys.generation,
  keys.epochCurrent,
  keys.placement(1),
  keys.leader,
  keys.leaderFence,
  keys.load('r'),
  keys.loads,
  keys.pages('r'),
  keys.pageLeases('r'),
  keys.pageHolders,
  keys.pageFence,
  keys.pageOwner('r'),
  keys.eventLog,
  keys.drains,
  keys.quarantine,
  keys.probation('r'),
  keys.status('s'),
  accounts.quotaLeases('key:a'),
];
/** Of another cluster, whatever it is about. */
const OTHERS = [redisKeys('two').members, redisKeys(`${CLUSTER}1`).members, 'something'];

let server: RedisServer;
let redis: Redis;
before(async () => {
  server = await RedisServer.start();
  redis = new Redis(server.url);
});
after(async () => {
  redis.disconnect();
  await server.stop();
});

test('what is about processes goes, accounts and what clients keep stay, and other clusters are left alone', async () => {
  const many = Array.from({ length: 3000 }, (_, i) => keys.member('expert', `e${i}`));
  for (const name of [...KEPT, ...FORGOTTEN, ...OTHERS, ...many]) await redis.set(name, '1');
  const options = { redis: server.url, cluster: CLUSTER, clock: systemClock, logger: silentLogger() };
  assert.equal(await forgetProcesses(options), FORGOTTEN.length + many.length);
  assert.deepEqual((await redis.keys('*')).sort(), [...KEPT, ...OTHERS].sort());
  assert.equal(await forgetProcesses(options), 0);
});

test('every name of the lists has been told apart', () => {
  const spelt = new Set([...KEPT, ...FORGOTTEN].map((name) => name.slice(keys.prefix.length).replace(/:.*/, '')));
  const all = [keys, accounts].flatMap((names) =>
    Object.entries(names).map(([, name]) => (typeof name === 'function' ? String(name('x', 'y')) : String(name))),
  );
  const known = new Set(['', 'events', 'account-events']);
  for (const name of all) {
    const first = name.slice(keys.prefix.length).replace(/:.*/, '');
    assert.ok(spelt.has(first) || known.has(first), `${name} is neither kept nor forgotten here`);
  }
});

test('without Redis it says so', async () => {
  const options = { redis: 'redis://127.0.0.1:1', cluster: CLUSTER, clock: systemClock, logger: silentLogger() };
  await assert.rejects(forgetProcesses(options), { code: 'redis_unavailable' });
});
