import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { after, before, test } from 'node:test';
import type { Redis } from 'ioredis';
import { systemClock } from '../clock.ts';
import type { PageName } from '../kv/page-names.ts';
import { eventually, freePort, RedisServer, silentLogger } from '../testing/index.ts';
import { connectRedis } from './client.ts';
import type { DirectoryEntry, EntryKey, EntryTier } from './directory-codec.ts';
import { redisKeys } from './keys.ts';
import { type DirectoryOwner, ENTRIES_PER_CALL, isRedisFull, NAMES_PER_CALL, PageDirectory } from './page-directory.ts';

const options = { logger: silentLogger(), clock: systemClock };
/** Longer than any test, where the end of a lease is not what is tested. */
const LONG_MS = 600_000;
const LOOKUP = { stateless: false, timeoutMs: 60_000 };
let server: RedisServer;
let redis: Redis;
let clusters = 0;

before(async () => {
  server = await RedisServer.start();
  redis = connectRedis(server.url, options);
  await eventually(() => redis.status === 'ready', 'connection');
});

after(async () => {
  redis.disconnect();
  await server.stop();
});

function directory(leaseMs = LONG_MS): { keys: ReturnType<typeof redisKeys>; pages: PageDirectory } {
  clusters += 1;
  const keys = redisKeys(`directory-${clusters}`);
  return { keys, pages: new PageDirectory({ redis, keys, clock: systemClock, leaseMs }) };
}

/** Names of a prompt; any byte may occur in them. */
function prompt(count: number, seed = 'a'): PageName[] {
  return Array.from({ length: count }, (_, i) => hash('sha256', `${seed}/${i}`, 'binary').slice(0, 16) as PageName);
}

const page = (name: PageName, tier: EntryTier = 'device'): DirectoryEntry => ({
  kind: 'page',
  name,
  tier,
  size: 4096,
  value: 1.5,
});
const state = (name: PageName, tier: EntryTier = 'device'): DirectoryEntry => ({ ...page(name, tier), kind: 'state' });
const key = ({ kind, name }: EntryKey): EntryKey => ({ kind, name });

async function owner(of: PageDirectory, router: string, incarnation = 1n): Promise<DirectoryOwner> {
  const fenced = await of.fence(router, incarnation);
  assert.equal(fenced.status, 'ok');
  return (fenced as { owner: DirectoryOwner }).owner;
}

async function add(of: PageDirectory, by: DirectoryOwner, added: DirectoryEntry[]): Promise<void> {
  assert.equal((await of.publish(by, { added, removed: [] })).status, 'ok');
}

test('a lookup finds the leading pages of each holder, its deepest state and the worst tier on the way', async () => {
  const { pages } = directory();
  const names = prompt(300);
  const at = (i: number): PageName => names[i] as PageName;
  const a = await owner(pages, 'a');
  const b = await owner(pages, 'b');
  await owner(pages, 'empty');
  const c = await owner(pages, 'late');
  await add(pages, a, [...names.map((name) => page(name)), state(at(63)), state(at(255), 'host')]);
  await add(pages, b, [
    ...names.slice(0, 200).map((name, i) => page(name, i === 127 ? 'disk' : 'host')),
    state(at(99), 'device'),
    state(at(250)),
  ]);
  // A gap: page 0 is missing.
  await add(pages, c, [...names.slice(1).map((name) => page(name)), state(at(299))]);
  assert.deepEqual(await pages.lookup(names, LOOKUP), [
    { router: 'a', fence: a.fence, pages: 300, tier: 'device', resumePages: 256, resumeTier: 'host' },
    { router: 'b', fence: b.fence, pages: 200, tier: 'disk', resumePages: 100, resumeTier: 'host' },
  ]);
  assert.deepEqual(await pages.lookup(names.slice(0, 180), { ...LOOKUP, stateless: true }), [
    { router: 'a', fence: a.fence, pages: 180, tier: 'device', resumePages: 180, resumeTier: 'device' },
    { router: 'b', fence: b.fence, pages: 180, tier: 'disk', resumePages: 180, resumeTier: 'disk' },
  ]);
  assert.deepEqual(await pages.lookup(names.slice(0, 50), LOOKUP), [
    { router: 'a', fence: a.fence, pages: 50, tier: 'device', resumePages: 0, resumeTier: null },
    { router: 'b', fence: b.fence, pages: 50, tier: 'host', resumePages: 0, resumeTier: null },
  ]);
  assert.deepEqual(await pages.lookup(prompt(5, 'other'), LOOKUP), []);
  assert.deepEqual(await pages.lookup([], LOOKUP), []);
});

test('every length of a match is found, whatever slices the script reads', async () => {
  const { pages } = directory();
  const names = prompt(420);
  const a = await owner(pages, 'a');
  for (const count of [1, 2, 63, 64, 65, 127, 128, 129, 319, 320, 321, 383, 384, 419, 420]) {
    const first = names.slice(0, count);
    const resume = Math.max(1, count - 70);
    const by = await owner(pages, 'a', 1n);
    await add(pages, by, [...first.map((name) => page(name)), state(names[resume - 1] as PageName)]);
    const [found] = await pages.lookup(names, LOOKUP);
    assert.deepEqual([found?.pages, found?.resumePages], [count, resume]);
  }
  assert.equal((await pages.renew(a)).status, 'fenced');
});

test('states far in front of the end of a match are found on the grid', async () => {
  const { pages } = directory();
  const names = prompt(2000);
  const a = await owner(pages, 'a');
  await add(
    pages,
    a,
    names.map((name) => page(name)),
  );
  const resume = async (): Promise<number | undefined> => (await pages.lookup(names, LOOKUP))[0]?.resumePages;
  for (const [behind, found] of [
    [64, 64],
    [1472, 1472],
    [1483, 1472],
    [1489, 1489],
    [1990, 1990],
  ] as const) {
    await add(pages, a, [state(names[behind - 1] as PageName)]);
    assert.equal(await resume(), found);
  }
});

test('holes in a prefix end it when they are seen, and the page at the end is always there', async () => {
  const { pages } = directory();
  const names = prompt(300);
  for (const [missing, expected] of [
    [[0], undefined],
    [[10], 300],
    [[63], 63],
    [[10, 63], 10],
    [[255], 255],
    [[200, 255], 200],
    [[299], 299],
  ] as [number[], number | undefined][]) {
    const a = await owner(pages, 'a');
    await add(
      pages,
      a,
      names.filter((_, i) => !missing.includes(i)).map((name) => page(name)),
    );
    assert.equal((await pages.lookup(names, { ...LOOKUP, stateless: true }))[0]?.pages, expected, String(missing));
  }
});

test('prompts longer than a call are looked up in parts, which join', async () => {
  const { pages } = directory();
  const count = 2 * NAMES_PER_CALL + 100;
  const names = prompt(count);
  const at = (i: number): PageName => names[i] as PageName;
  const a = await owner(pages, 'a');
  const b = await owner(pages, 'b');
  await add(pages, a, [
    ...names.map((name, i) => page(name, i === 63 ? 'disk' : 'device')),
    state(at(NAMES_PER_CALL + 15)),
  ]);
  await add(pages, b, [...names.slice(0, 10).map((name) => page(name)), state(at(9))]);
  assert.deepEqual(await pages.lookup(names, LOOKUP), [
    { router: 'a', fence: a.fence, pages: count, tier: 'disk', resumePages: NAMES_PER_CALL + 16, resumeTier: 'disk' },
    { router: 'b', fence: b.fence, pages: 10, tier: 'device', resumePages: 10, resumeTier: 'device' },
  ]);
});

test('entries are replaced and removed, in batches of any size', async () => {
  const { pages } = directory();
  const names = prompt(2 * ENTRIES_PER_CALL + 5);
  const a = await owner(pages, 'a');
  await add(
    pages,
    a,
    names.map((name) => page(name)),
  );
  await add(
    pages,
    a,
    names.map((name) => page(name, 'host')),
  );
  const found = async (): Promise<unknown> => {
    const [first] = await pages.lookup(names, { ...LOOKUP, stateless: true });
    return first === undefined ? null : [first.pages, first.tier];
  };
  assert.deepEqual(await found(), [names.length, 'host']);
  const removed = names.slice(2).map((name): EntryKey => ({ kind: 'page', name }));
  assert.deepEqual(await pages.publish(a, { added: [], removed }, '0'), { status: 'ok', full: false, leases: null });
  assert.deepEqual(await found(), [2, 'host']);
});

test('entries end with the lease of their owner, who then has to fence again', async () => {
  const { pages, keys } = directory();
  const names = prompt(3);
  const a = await owner(pages, 'a');
  await add(
    pages,
    a,
    names.map((name) => page(name)),
  );
  await redis.pexpire(keys.pages('a'), 1);
  await eventually(async () => (await pages.lookup(names, LOOKUP)).length === 0, 'the end of the lease');
  assert.equal(await redis.exists(keys.pageHolders), 0);
  assert.deepEqual(await pages.renew(a), { status: 'unknown' });
  assert.deepEqual(await pages.evict(a, [page(names[0] as PageName)]), { status: 'unknown' });
  const again = await pages.fence('a', 1n, a.born);
  assert.ok(again.status === 'ok' && again.owner.fence > a.fence && again.owner.born === a.born);
});

test('each write of the owner renews, and a lease that is renewed does not end', async () => {
  const { pages, keys } = directory();
  const a = await owner(pages, 'a');
  const left = async (): Promise<number> => await redis.pttl(keys.pages('a'));
  for (const write of [
    () => pages.publish(a, { added: prompt(1).map((name) => page(name)), removed: [] }),
    () => pages.renew(a),
    () =>
      pages.evict(
        a,
        prompt(1).map((name) => page(name)),
      ),
  ]) {
    await redis.pexpire(keys.pages('a'), 50_000);
    await write();
    assert.ok((await left()) > 60_000);
  }
});

test('a later process replaces an earlier one, which can never come back', async () => {
  const { pages, keys } = directory();
  const names = prompt(4);
  const old = await owner(pages, 'a', 1n);
  await add(
    pages,
    old,
    names.map((name) => page(name)),
  );
  const heir = await owner(pages, 'a', 2n);
  assert.ok(heir.fence > old.fence);
  assert.deepEqual(await pages.lookup(names, LOOKUP), []);
  await add(pages, heir, [page(names[0] as PageName)]);
  assert.deepEqual(await pages.publish(old, { added: names.map((n) => page(n)), removed: [] }), { status: 'fenced' });
  assert.deepEqual(await pages.evict(old, [page(names[0] as PageName)]), { status: 'fenced' });
  assert.equal(await pages.forget(old), false);
  assert.deepEqual(await pages.fence('a', 1n, old.born), { status: 'replaced' });
  assert.equal((await pages.lookup(names, LOOKUP))[0]?.pages, 1);
  // Not even when the heir's lease has ended.
  await redis.del(keys.pages('a'));
  assert.deepEqual(await pages.renew(old), { status: 'unknown' });
  assert.deepEqual(await pages.fence('a', 1n, old.born), { status: 'replaced' });
  assert.equal((await pages.fence('a', 2n, heir.born)).status, 'ok');
});

test('after Redis lost its data the later process wins, whoever comes first', async () => {
  const { pages } = directory();
  const old = await owner(pages, 'a', 1n);
  const heir = await owner(pages, 'a', 2n);
  await redis.flushall();
  const back = await pages.fence('a', 1n, old.born);
  assert.ok(back.status === 'ok' && back.owner.fence > heir.fence, 'nobody else has been seen');
  assert.deepEqual(await pages.renew(heir), { status: 'fenced' });
  const again = await pages.fence('a', 2n, heir.born);
  assert.ok(again.status === 'ok' && again.owner.fence > back.owner.fence);
  assert.deepEqual(await pages.renew(back.owner), { status: 'fenced' });
  assert.deepEqual(await pages.fence('a', 1n, back.owner.born), { status: 'replaced' });
});

test('a fence whose answer was lost is made again', async () => {
  const { pages } = directory();
  const lost = await owner(pages, 'a', 1n);
  const again = await owner(pages, 'a', 1n);
  assert.deepEqual([again.born, again.fence > lost.fence], [lost.born, true]);
  assert.equal((await pages.renew(again)).status, 'ok');
});

test('fences grow over all routers', async () => {
  const { pages } = directory();
  const fences: number[] = [];
  for (let i = 0; i < 20; i++) fences.push((await owner(pages, `r${i % 3}`, BigInt(i + 1))).fence);
  assert.deepEqual(
    fences,
    [...new Set(fences)].sort((a, b) => a - b),
  );
});

test('leased entries are not evicted, and the owner learns which they are', async () => {
  const { pages } = directory();
  const names = prompt(3);
  const [first, second, third] = names.map((name) => page(name)) as [DirectoryEntry, DirectoryEntry, DirectoryEntry];
  const a = await owner(pages, 'a');
  await add(pages, a, [first, second, state(first.name)]);
  const lease = await pages.lease('a', [first, third], 50_000);
  assert.deepEqual(lease.there, [true, false]);
  assert.deepEqual((await pages.lease('nobody', [first], 50_000)).there, [false]);
  const answer = await pages.renew(a);
  assert.ok(answer.status === 'ok' && answer.leases !== null);
  const [leased, ...more] = answer.leases.leases;
  assert.deepEqual([leased?.entries, more], [[key(first)], []]);
  assert.ok((leased?.leftMs ?? 0) > 1000 && (leased?.leftMs ?? 0) <= 50_000);
  assert.deepEqual(await pages.renew(a, answer.leases.version), { status: 'ok', full: false, leases: null });
  assert.deepEqual(await pages.evict(a, [first, second, third, state(first.name)]), {
    status: 'ok',
    leased: [key(first)],
  });
  assert.equal((await pages.lookup(names, LOOKUP))[0]?.pages, 1);
  assert.equal(await pages.release(lease), true);
  assert.equal(await pages.release(lease), false);
  const after = await pages.renew(a, answer.leases.version);
  assert.deepEqual(after.status === 'ok' && after.leases?.leases, []);
  assert.deepEqual(await pages.evict(a, [first]), { status: 'ok', leased: [] });
  assert.deepEqual(await pages.lookup(names, LOOKUP), []);
});

test('an entry stays until the last lease on it is released or has ended', async () => {
  const { pages } = directory();
  const [entry] = prompt(1).map((name) => page(name)) as [DirectoryEntry];
  const a = await owner(pages, 'a');
  await add(pages, a, [entry]);
  const x = await pages.lease('a', [entry], 50_000);
  const y = await pages.lease('a', [entry], 50_000);
  await pages.lease('a', [entry], 1);
  const leased = async (): Promise<number> => {
    const answer = await pages.evict(a, [entry]);
    return answer.status === 'ok' ? answer.leased.length : -1;
  };
  assert.equal(await pages.release(x), true);
  assert.equal(await leased(), 1);
  assert.equal(await pages.release(x), false);
  assert.equal(await leased(), 1);
  assert.equal(await pages.release(y), true);
  await eventually(async () => (await leased()) === 0, 'the end of the last lease');
});

test('a lease of many entries takes several calls and one release', async () => {
  const { pages } = directory();
  const entries = prompt(2 * ENTRIES_PER_CALL + 5).map((name) => page(name));
  const a = await owner(pages, 'a');
  await add(pages, a, entries);
  const lease = await pages.lease('a', entries, 50_000);
  assert.equal(lease.there.filter(Boolean).length, entries.length);
  const refused = await pages.evict(a, entries);
  assert.deepEqual(refused.status === 'ok' && refused.leased, entries.map(key));
  await pages.release(lease);
  assert.deepEqual(await pages.evict(a, entries), { status: 'ok', leased: [] });
  assert.equal(await pages.release(await pages.lease('a', [], 50_000)), false);
});

test('leases outlive a fence of the same process, not one of its heir', async () => {
  const { pages } = directory();
  const [entry] = prompt(1).map((name) => page(name)) as [DirectoryEntry];
  const a = await owner(pages, 'a', 1n);
  await add(pages, a, [entry]);
  await pages.lease('a', [entry], 50_000);
  const again = await owner(pages, 'a', 1n);
  await add(pages, again, [entry]);
  assert.deepEqual(await pages.evict(again, [entry]), { status: 'ok', leased: [key(entry)] });
  const heir = await owner(pages, 'a', 2n);
  await add(pages, heir, [entry]);
  assert.deepEqual(await pages.evict(heir, [entry]), { status: 'ok', leased: [] });
});

test('a router that leaves is off the list at once', async () => {
  const { pages, keys } = directory();
  const names = prompt(2);
  const a = await owner(pages, 'a');
  await add(
    pages,
    a,
    names.map((name) => page(name)),
  );
  await pages.lease('a', [page(names[0] as PageName)], 50_000);
  assert.equal(await pages.forget(a), true);
  assert.deepEqual(await pages.lookup(names, LOOKUP), []);
  assert.equal(await redis.exists(keys.pages('a'), keys.pageLeases('a'), keys.pageHolders), 0);
  assert.equal(await pages.forget(a), false);
});

test('all scripts run on a Redis Cluster', async () => {
  const node = await RedisServer.start(['--cluster-enabled', 'yes']);
  const own = connectRedis(node.url, options);
  try {
    await eventually(() => own.status === 'ready', 'connection');
    await own.call('CLUSTER', 'ADDSLOTSRANGE', '0', '16383');
    await eventually(async () => String(await own.call('CLUSTER', 'INFO')).includes('cluster_state:ok'), 'the slots');
    const pages = new PageDirectory({ redis: own, keys: redisKeys('sharded'), clock: systemClock, leaseMs: LONG_MS });
    const names = prompt(3);
    const entries = names.map((name) => page(name));
    const a = await owner(pages, 'a');
    await owner(pages, 'b');
    await add(pages, a, entries);
    assert.equal((await pages.lookup(names, { ...LOOKUP, stateless: true }))[0]?.resumePages, 3);
    const lease = await pages.lease('a', entries, 50_000);
    assert.deepEqual(lease.there, [true, true, true]);
    assert.equal(await pages.release(lease), true);
    assert.deepEqual(await pages.evict(a, entries), { status: 'ok', leased: [] });
    assert.equal(await pages.forget(a), true);
  } finally {
    own.disconnect();
    await node.stop();
  }
});

test('a Redis that is full refuses entries and still lets go of them', async () => {
  const small = await RedisServer.start(['--maxmemory', '8mb', '--maxmemory-policy', 'noeviction']);
  const own = connectRedis(small.url, options);
  try {
    await eventually(() => own.status === 'ready', 'connection');
    const pages = new PageDirectory({ redis: own, keys: redisKeys('full'), clock: systemClock, leaseMs: LONG_MS });
    const a = await owner(pages, 'a');
    const entries = prompt(2000).map((name) => page(name));
    await add(pages, a, entries);
    const lease = await pages.lease('a', entries.slice(0, 10), 50_000);
    await own.config('SET', 'maxmemory', '1mb');
    const more = prompt(10, 'more').map((name) => page(name));
    const both = await pages.publish(a, { added: more, removed: [key(entries[1999] as DirectoryEntry)] });
    assert.ok(both.status === 'ok' && both.full);
    assert.equal(await own.hlen(redisKeys('full').pages('a')), 2000);
    const refused = await pages.lease('a', entries, 50_000).then(
      () => null,
      (err: unknown) => err,
    );
    assert.ok(isRedisFull(refused), String(refused));
    await assert.rejects(pages.fence('b', 1n), { code: 'redis_unavailable' });
    assert.equal((await pages.renew(a)).status, 'ok');
    assert.equal(
      (
        await pages.lookup(
          entries.map(({ name }) => name),
          { ...LOOKUP, stateless: true },
        )
      )[0]?.pages,
      1999,
    );
    assert.equal(await pages.release(lease), true);
    assert.deepEqual(await pages.evict(a, entries.slice(1)), { status: 'ok', leased: [] });
    assert.equal((await pages.publish(a, { added: [], removed: [key(entries[0] as DirectoryEntry)] })).status, 'ok');
    assert.equal(await own.hlen(redisKeys('full').pages('a')), 1);
  } finally {
    own.disconnect();
    await small.stop();
  }
});

test('lookups fail at their deadline, at once while Redis is away, and do not pile up', async () => {
  const away = connectRedis(`redis://127.0.0.1:${await freePort()}`, options);
  const gone = new PageDirectory({ redis: away, keys: redisKeys('away'), clock: systemClock });
  await assert.rejects(gone.lookup(prompt(2), LOOKUP), { code: 'redis_unavailable' });
  away.disconnect();
  const hanging = await RedisServer.start();
  const own = connectRedis(hanging.url, options);
  try {
    await eventually(() => own.status === 'ready', 'connection');
    const pages = new PageDirectory({ redis: own, keys: redisKeys('hangs'), clock: systemClock });
    hanging.pause();
    const all = await Promise.allSettled(
      Array.from({ length: 80 }, () => pages.lookup(prompt(2), { stateless: false, timeoutMs: 10 })),
    );
    const reasons = all.map((result) => (result.status === 'rejected' ? String(result.reason) : 'answered'));
    assert.equal(reasons.filter((text) => text.includes('too many')).length, 16);
    assert.equal(reasons.filter((text) => text.includes('longer than 10 ms')).length, 64);
    hanging.resume();
    await eventually(
      () =>
        pages.lookup(prompt(2), LOOKUP).then(
          (found) => found.length === 0,
          () => false,
        ),
      'answers',
    );
  } finally {
    own.disconnect();
    await hanging.stop();
  }
});
