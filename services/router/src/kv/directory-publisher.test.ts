import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { afterEach, beforeEach, test } from 'node:test';
import {
  connectRedis,
  createMetrics,
  type DirectoryOp,
  type EntryTier,
  type HolderPrefix,
  type Logger,
  type Metrics,
  PageDirectory,
  type PageName,
  redisKeys,
  systemClock,
} from '@guildhall/common';
import { eventually, RedisServer, silentLogger } from '@guildhall/common/testing';
import { DirectoryPublisher, type DirectoryPublisherOptions } from './directory-publisher.ts';
import type { PublishedInfo } from './directory-table.ts';

const KEYS = redisKeys('publisher');
/** Outlasts every test, however slow the machine. */
const LONG_MS = 600_000;
/** Ends during an outage. */
const SHORT_MS = 2000;
let server: RedisServer;
let closing: (() => void | Promise<void>)[];

beforeEach(async () => {
  closing = [];
  server = await RedisServer.start();
});

afterEach(async () => {
  for (const close of closing.reverse()) await close();
  await server.stop();
});

function connect(leaseMs = LONG_MS): PageDirectory {
  const redis = connectRedis(server.url, { logger: silentLogger(), clock: systemClock });
  closing.push(() => redis.disconnect());
  return new PageDirectory({ redis, keys: KEYS, clock: systemClock, leaseMs });
}

function prompt(count: number, seed = 'a'): PageName[] {
  return Array.from({ length: count }, (_, i) => hash('sha256', `${seed}/${i}`, 'binary').slice(0, 16) as PageName);
}

const page = (name: PageName): PublishedInfo => ({ kind: 'page', name, size: 4096, value: 2 });

interface Rig {
  publisher: DirectoryPublisher;
  directory: PageDirectory;
  /** What the router has, by tier: what `entries` answers. */
  has: Map<PageName, EntryTier>;
  add: (tier: EntryTier, names: readonly PageName[]) => void;
  remove: (names: readonly PageName[]) => void;
  calls: DirectoryOp[];
  faults: string[];
  replaced: Error[];
  warnings: string[];
  metrics: Metrics;
}

function rig(options: Partial<DirectoryPublisherOptions> = {}): Rig {
  const directory = options.directory ?? connect();
  const metrics = createMetrics('router');
  const made = {
    directory,
    metrics,
    has: new Map(),
    calls: [],
    faults: [],
    replaced: [],
    warnings: [],
  } as unknown as Rig;
  directory.observe((op) => void made.calls.push(op));
  const logger = {
    ...silentLogger(),
    debug: () => undefined,
    info: () => undefined,
    error: () => undefined,
    warn: (...parts: unknown[]) => void made.warnings.push(String(parts.at(-1))),
  } as unknown as Logger;
  made.publisher = new DirectoryPublisher({
    directory,
    router: 'a',
    incarnation: 1n,
    clock: systemClock,
    logger,
    metrics,
    entries: () => [...made.has].map(([name, tier]) => ({ ...page(name), tier })),
    onReplaced: (err) => made.replaced.push(err),
    onFault: (kind, detail) => made.faults.push(`${kind}: ${detail}`),
    renewMs: 200,
    spacingMs: 100,
    ...options,
  });
  made.add = (tier, names) => {
    for (const name of names) {
      made.has.set(name, tier);
      made.publisher.added(tier, page(name));
    }
  };
  made.remove = (names) => {
    for (const name of names) {
      made.publisher.removed(made.has.get(name) ?? 'device', 'page', name);
      made.has.delete(name);
    }
  };
  closing.push(() => made.publisher.close());
  return made;
}

const LOOKUP = { stateless: true, timeoutMs: 10_000 };

/** What a reader finds, or null while Redis is away. */
async function find(reader: PageDirectory, names: readonly PageName[], router = 'a'): Promise<HolderPrefix | null> {
  try {
    return (await reader.lookup(names, LOOKUP)).find((holder) => holder.router === router) ?? null;
  } catch {
    return null;
  }
}

const finds = async (
  reader: PageDirectory,
  names: readonly PageName[],
  pages: number,
  router = 'a',
): Promise<boolean> => (await find(reader, names, router))?.pages === pages;

test('what the tiers have is listed in the nearest tier, and counted', async () => {
  const { publisher, add, remove, has, metrics } = rig();
  const names = prompt(60);
  const reader = connect();
  for (const name of names.slice(0, 5)) has.set(name, 'disk');
  publisher.start();
  await eventually(() => finds(reader, names, 5), 'what was there at the start');
  add('device', names);
  add('host', names);
  await eventually(() => finds(reader, names, 60), 'the pages of a prompt');
  assert.equal((await find(reader, names))?.tier, 'device');
  for (const name of names.slice(10)) publisher.removed('device', 'page', name);
  await eventually(async () => (await find(reader, names))?.tier === 'host', 'the farther tier');
  remove(names.slice(10));
  await eventually(() => finds(reader, names, 10), 'the removal');
  assert.equal(publisher.state, 'up');
  await eventually(async () => {
    const { body } = await metrics.render();
    const listed = body.includes('guildhall_directory_entries{state="listed"} 10\n');
    return listed && body.includes('guildhall_directory_changes_total{change="removed"} 50\n');
  }, 'the metrics');
});

test('one call publishes all changes of a flush', async () => {
  const { publisher, add, calls, directory } = rig({ flushMs: 20, spacingMs: 20, renewMs: 60_000 });
  await eventually(
    () =>
      directory.forget({ router: 'none', incarnation: 1n, fence: 1, born: 1 }).then(
        () => true,
        () => false,
      ),
    'connection',
  );
  calls.length = 0;
  publisher.start();
  await publisher.flush();
  add('device', prompt(500));
  await publisher.flush();
  assert.deepEqual(calls, ['fence', 'publish', 'publish']);
  add('device', prompt(2500, 'more'));
  await publisher.flush();
  assert.deepEqual(calls.slice(3), ['publish', 'publish', 'publish']);
});

test('the lease is renewed, and a router that closes is off the list at once', async () => {
  const { publisher, add } = rig();
  const names = prompt(3);
  publisher.start();
  add('device', names);
  const reader = connect();
  await eventually(() => finds(reader, names, 3), 'the pages');
  const admin = connectRedis(server.url, { logger: silentLogger(), clock: systemClock });
  closing.push(() => admin.disconnect());
  await eventually(() => admin.status === 'ready', 'connection');
  for (let i = 0; i < 3; i++) {
    await admin.pexpire(KEYS.pages('a'), LONG_MS / 2);
    await eventually(async () => (await admin.pttl(KEYS.pages('a'))) > LONG_MS / 2, 'the renewal');
  }
  await publisher.close();
  assert.equal(await find(reader, names), null);
});

test('Redis killed, back and empty: everything is listed again, and what was removed is not', async () => {
  const { publisher, add, remove, faults, warnings } = rig();
  const names = prompt(2500);
  publisher.start();
  add('device', names);
  const reader = connect();
  await eventually(() => finds(reader, names, 2500), 'the pages');
  await server.kill();
  add('host', prompt(10, 'while away'));
  remove(names.slice(1500));
  await eventually(() => publisher.state === 'away', 'the outage');
  await server.restart();
  await eventually(() => finds(reader, names, 1500), 'the pages again');
  await eventually(() => finds(reader, prompt(10, 'while away'), 10), 'the new pages');
  assert.ok(faults.length > 0 && faults.every((text) => text.startsWith('redis: ')));
  assert.deepEqual(warnings, ['pages cannot be listed in the directory for now']);
});

test('data lost without an outage is published again', async () => {
  const { publisher, add } = rig();
  const names = prompt(20);
  publisher.start();
  add('device', names);
  const reader = connect();
  await eventually(() => finds(reader, names, 20), 'the pages');
  const admin = connectRedis(server.url, { logger: silentLogger(), clock: systemClock });
  closing.push(() => admin.disconnect());
  await eventually(() => admin.status === 'ready', 'connection');
  await admin.flushall();
  await eventually(() => finds(reader, names, 20), 'the pages again');
});

test('a Redis that hangs longer than the lease: the entries are gone, then listed again', async () => {
  const { publisher, add } = rig({ directory: connect(SHORT_MS) });
  const names = prompt(20);
  publisher.start();
  add('device', names);
  const reader = connect();
  await eventually(() => finds(reader, names, 20), 'the pages');
  server.pause();
  await eventually(() => publisher.state === 'away', 'the outage');
  await systemClock.sleep(SHORT_MS * 1.2);
  add('device', prompt(3, 'while it hangs'));
  server.resume();
  await eventually(() => finds(reader, names, 20), 'the pages again');
  await eventually(() => finds(reader, prompt(3, 'while it hangs'), 3), 'the new pages');
});

test('of two processes with one id the later one lists, and the earlier one stops and tells', async () => {
  const old = rig();
  const names = prompt(5);
  old.publisher.start();
  old.add('device', names);
  const reader = connect();
  await eventually(() => finds(reader, names, 5), 'the pages');
  const heir = rig({ incarnation: 2n });
  heir.publisher.start();
  heir.add('host', names.slice(0, 2));
  await eventually(() => finds(reader, names, 2), 'the heir’s pages');
  old.add('device', prompt(3, 'too late'));
  await eventually(() => old.replaced.length === 1, 'the loss');
  assert.equal((old.replaced[0] as Error & { code: string }).code, 'id_in_use');
  assert.equal(old.publisher.state, 'replaced');
  await old.publisher.close();
  assert.ok(await finds(reader, names, 2));
  assert.equal(await find(reader, prompt(3, 'too late')), null);
  // Redis loses its data and both come back.
  await server.kill();
  await server.restart();
  await eventually(() => finds(reader, names, 2), 'the heir’s pages again');
  assert.deepEqual(heir.replaced, []);
});

test('two processes race for one id while Redis comes back: the later one wins', async () => {
  const old = rig();
  const heir = rig({ incarnation: 2n });
  const names = prompt(5);
  old.has.set(names[0] as PageName, 'device');
  for (const name of names) heir.has.set(name, 'device');
  const reader = connect();
  old.publisher.start();
  await eventually(() => finds(reader, names, 1), 'the old pages');
  heir.publisher.start();
  await eventually(() => finds(reader, names, 5), 'the new pages');
  if (old.publisher.state !== 'replaced') {
    await server.kill();
    await server.restart();
  }
  await eventually(() => old.replaced.length === 1, 'the loss');
  await eventually(() => finds(reader, names, 5), 'the new pages');
  assert.deepEqual([heir.replaced, heir.publisher.state], [[], 'up']);
});

test('two routers list the same names beside one another', async () => {
  const a = rig();
  const b = rig({ router: 'b', incarnation: 2n });
  const names = prompt(30);
  for (const { publisher } of [a, b]) publisher.start();
  const reader = connect();
  for (const name of names) {
    a.add('device', [name]);
    b.add('host', [name]);
  }
  await eventually(() => finds(reader, names, 30, 'a'), 'the pages of a');
  await eventually(() => finds(reader, names, 30, 'b'), 'the pages of b');
  a.remove(names);
  await eventually(async () => (await find(reader, names, 'a')) === null, 'the removal');
  assert.equal((await find(reader, names, 'b'))?.tier, 'host');
});

test('leased entries are known, and kept when they are to be evicted', async () => {
  const { publisher, add, remove } = rig();
  const names = prompt(4);
  const [first, second] = names as [PageName, PageName];
  publisher.start();
  add('device', names);
  const reader = connect();
  await eventually(() => finds(reader, names, 4), 'the pages');
  assert.equal(publisher.isLeased('page', first), false);
  const lease = await reader.lease('a', [page(first)], 50_000);
  await eventually(() => publisher.isLeased('page', first), 'the lease');
  assert.equal(publisher.isLeased('page', second), false);
  assert.deepEqual(await publisher.evict([page(second), page(first)]), [{ kind: 'page', name: first }]);
  remove([second]);
  assert.ok(await finds(reader, names, 1));
  server.pause();
  await eventually(() => publisher.state === 'away', 'the outage');
  assert.deepEqual(await publisher.evict([page(first)]), [page(first)]);
  server.resume();
  // The answer to a release may be lost, the lease is not.
  await eventually(
    () =>
      reader.release(lease).then(
        () => true,
        () => false,
      ),
    'the release',
  );
  await eventually(() => !publisher.isLeased('page', first), 'the end of the lease');
});

test('a publisher that is poked learns of leases without waiting for a renewal', async () => {
  const { publisher, add } = rig({ renewMs: 600_000 });
  const names = prompt(2);
  publisher.start();
  add('device', names);
  const reader = connect();
  // Nothing renews: the lease of the entries lasts long enough for two calls.
  await eventually(() => finds(reader, names, 2), 'the pages');
  await reader.lease('a', [page(names[0] as PageName)], 50_000);
  publisher.poke();
  await eventually(() => publisher.isLeased('page', names[0] as PageName), 'the lease');
});

test('a Redis that is full is a fault that is logged once; the rest goes on and follows later', async () => {
  const { publisher, add, remove, faults, warnings } = rig({ fullMs: 300 });
  const names = prompt(1000);
  publisher.start();
  add('device', names);
  const reader = connect();
  await eventually(() => finds(reader, names, 1000), 'the pages');
  const admin = connectRedis(server.url, { logger: silentLogger(), clock: systemClock });
  closing.push(() => admin.disconnect());
  await eventually(() => admin.status === 'ready', 'connection');
  await admin.config('SET', 'maxmemory', '1mb');
  const more = prompt(20, 'more');
  add('device', more);
  await eventually(() => faults.length >= 3, 'several attempts');
  assert.equal(publisher.state, 'up');
  remove(names.slice(900));
  await eventually(() => finds(reader, names, 900), 'the removal');
  assert.equal(await find(reader, more), null);
  assert.deepEqual(warnings, ['Redis is out of memory; new pages are not listed in the directory for now']);
  await admin.config('SET', 'maxmemory', '0');
  await eventually(() => finds(reader, more, 20), 'the new pages');
});

test('a publisher that starts without Redis lists what it has once there is one', async () => {
  await server.kill();
  const { publisher, add, warnings } = rig();
  const names = prompt(3);
  publisher.start();
  add('device', names);
  await eventually(() => publisher.state === 'away', 'the outage');
  await publisher.flush();
  await server.restart();
  const reader = connect();
  await eventually(() => finds(reader, names, 3), 'the pages');
  assert.equal(warnings.length, 1);
  await publisher.close();
  await publisher.close();
});
