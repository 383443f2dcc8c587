import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Cluster, createMetrics, PageDirectory, systemClock } from '@guildhall/common';
import { eventually, RedisServer, silentLogger } from '@guildhall/common/testing';
import { PrefixLookup } from './prefix-lookup.ts';
import { namePages } from './prompt-names.ts';

const SPACE = { fingerprint: 'f', numericsId: 'n', pageTokens: 64, salt: '', adapter: '' };
const PROMPT = Array.from({ length: 1000 }, (_, i) => i);
const logger = silentLogger();
let redis: RedisServer;
let cluster: Cluster;
let directory: PageDirectory;

before(async () => {
  redis = await RedisServer.start();
  cluster = new Cluster({ redis: redis.url, cluster: 'test', clock: systemClock, logger });
  await cluster.start();
  directory = new PageDirectory({ redis: cluster.redis, keys: cluster.keys, clock: systemClock });
});
after(async () => {
  await cluster.close();
  await redis.stop();
});

function lookupWithin(timeoutMs: number): PrefixLookup {
  return new PrefixLookup({ directory, clock: systemClock, logger, metrics: createMetrics('gateway'), timeoutMs });
}

/** A router publishes the first pages of the prompt, with states behind some. */
async function publish(router: string, pages: number, states: number[]): Promise<void> {
  const fenced = await directory.fence(router, 1n);
  assert.ok(fenced.status === 'ok');
  const names = (await namePages(SPACE, PROMPT)).slice(0, pages);
  const entry = { tier: 'device' as const, size: 100, value: 1 };
  const added = [
    ...names.map((name) => ({ ...entry, kind: 'page' as const, name })),
    ...names.filter((_, i) => states.includes(i + 1)).map((name) => ({ ...entry, kind: 'state' as const, name })),
  ];
  assert.equal((await directory.publish(fenced.owner, { added, removed: [] })).status, 'ok');
}

test('what routers publish is found under the names that the gateway gives, as far as it can be resumed', async () => {
  await publish('router-1', 10, [4, 8]);
  await publish('router-2', 15, [15]);
  const names = await namePages(SPACE, PROMPT);
  const found = async (stateless: boolean) => {
    const answer = await lookupWithin(5000).find({ names, stateless, worthMs: 0 });
    assert.ok('holdings' in answer);
    return new Map(answer.holdings.map((one) => [one.router, [one.pages, one.resumePages, one.resumeTier]]));
  };
  assert.deepEqual(
    await found(false),
    new Map([
      ['router-1', [10, 8, 'device']],
      ['router-2', [15, 15, 'device']],
    ]),
  );
  assert.deepEqual((await found(true)).get('router-1'), [10, 10, 'device']);
  const others = await namePages({ ...SPACE, salt: 'other' }, PROMPT);
  assert.deepEqual(await lookupWithin(5000).find({ names: others, stateless: false, worthMs: 0 }), { holdings: [] });
});

test('with Redis stopped, dead and back again nobody waits longer than the deadline, and lookups return', async () => {
  const names = await namePages(SPACE, PROMPT);
  const lookup = lookupWithin(20);
  redis.pause();
  for (let i = 0; i < 3; i += 1)
    assert.deepEqual(await lookup.find({ names, stateless: false, worthMs: 0 }), { failed: 'slow' });
  assert.equal(lookup.open, true);
  redis.resume();
  await eventually(
    async () => 'holdings' in (await lookup.find({ names, stateless: false, worthMs: 0 })),
    'the breaker closes',
  );
  await redis.kill();
  await eventually(async () => {
    const answer = await lookup.find({ names, stateless: false, worthMs: 0 });
    return 'failed' in answer && answer.failed === 'away';
  }, 'Redis is seen to be away');
  await redis.restart();
  await eventually(
    async () => 'holdings' in (await lookup.find({ names, stateless: false, worthMs: 0 })),
    'the breaker closes again',
  );
});
