import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type PageName, PageNames } from '@guildhall/common';
import { Evictor } from './evictor.ts';
import { PagePool } from './page-pool.ts';
import { type CacheNode, PrefixCache, type PrefixCacheOptions } from './prefix-cache.ts';
import { StateSlots } from './state-slots.ts';

interface World {
  pool: PagePool;
  cache: PrefixCache;
  removed: string[];
  /** Names a prompt of `length` pages and puts those that are missing into the cache. */
  publish: (seed: number, length: number) => CacheNode[];
}

function world(numPages: number, options: Partial<PrefixCacheOptions> = {}): World {
  const pool = new PagePool(numPages);
  const removed: string[] = [];
  const cache = new PrefixCache({
    pool,
    snapshots: new StateSlots(2, 8),
    pageTokens: 64,
    pageBytes: 64,
    stateBytes: 8,
    cost: (tokens, depth) => tokens + depth / 1024,
    observer: { added: () => undefined, removed: (kind, _name, reason) => void removed.push(`${kind} ${reason}`) },
    ...options,
  });
  const publish = (seed: number, length: number): CacheNode[] => {
    const space = { fingerprint: 'f', numericsId: 'n', pageTokens: 64, salt: '', adapter: '' };
    const names = new PageNames(
      space,
      Int32Array.from({ length: 64 * length }, (_, i) => (i * seed) % 1000),
    );
    const nodes: CacheNode[] = [];
    for (let index = 0; index < length; index++) {
      const pages = pool.allocate(1);
      const page = { name: names.at(index), parent: nodes.at(-1) ?? null, index, tokens: names.tokens(index), pages };
      const node = cache.insert(page);
      pool.free(pages);
      assert.ok(node !== null);
      nodes.push(node);
    }
    return nodes;
  };
  return { pool, cache, removed, publish };
}

test('leaves go first, the least recently used chain before others', () => {
  const { pool, cache, publish } = world(8);
  const old = publish(3, 4);
  const young = publish(5, 4);
  cache.touch(old, null);
  pool.free(pool.allocate(3));
  assert.deepEqual(
    young.map(({ alive }) => alive),
    [true, false, false, false],
  );
  assert.ok(old.every(({ alive }) => alive));
});

test('pages that somebody refers to stay, and with them those before', () => {
  const { pool, cache, publish } = world(6);
  const used = publish(3, 3);
  const last = used.at(-1) as CacheNode;
  cache.pin(last);
  publish(5, 3);
  assert.equal(pool.numIdle, 5);
  for (const node of used) pool.share(node.pages[0] as (typeof node.pages)[0]);
  assert.equal(pool.can(4), false);
  pool.free(pool.allocate(3));
  assert.ok(used.every(({ alive }) => alive));
  cache.unpin(last);
  for (const node of used) pool.free(node.pages);
  pool.checkIntegrity(cache.tables());
  cache.clear();
  assert.equal(pool.numFree, 6);
});

test('what another router leases is evicted last, and said so', () => {
  const leased = new Set<PageName>();
  const { pool, removed, publish } = world(6, { isLeased: ({ name }) => leased.has(name) });
  const first = publish(3, 3);
  publish(5, 3);
  for (const { name } of first) leased.add(name);
  pool.free(pool.allocate(3));
  assert.ok(first.every(({ alive }) => alive));
  assert.deepEqual(removed, ['page evicted', 'page evicted', 'page evicted']);
  pool.free(pool.allocate(5));
  assert.ok(removed.includes('page leased'));
});

test('a name whose tokens differ is a miss, and is not taken over', () => {
  const { pool, cache, publish } = world(4);
  const [node] = publish(3, 1) as [CacheNode];
  const other = Int32Array.from(node.tokens, (id) => id + 1);
  assert.equal(cache.find(node.name, other), null);
  const pages = pool.allocate(1);
  assert.equal(cache.insert({ name: node.name, parent: null, index: 0, tokens: other, pages }), null);
  pool.free(pages);
  assert.equal(pool.numUsed, 0);
});

test('states take the place of the least valuable one that nobody reads', () => {
  const { cache, publish, removed } = world(16);
  const nodes = publish(3, 12);
  const at = (index: number): CacheNode => nodes[index] as CacheNode;
  for (const index of [1, 11]) {
    assert.ok(cache.attachState(at(index), cache.takeSlot() ?? assert.fail('no slot')));
  }
  const short = at(1).state;
  const slot = cache.takeSlot();
  assert.equal(at(1).state, null, 'two pages are computed sooner than ten');
  assert.equal(slot, short?.slot);
  assert.deepEqual(removed, ['state evicted']);
  const kept = at(11).state ?? assert.fail('the other state is gone');
  kept.users = 1;
  assert.equal(cache.takeSlot(), null);
  cache.checkSlots([slot as NonNullable<typeof slot>]);
});

test('pages are freed ahead of need, except those that the directory keeps', async () => {
  const { pool, cache, publish } = world(128);
  const nodes = [...publish(3, 64), ...publish(5, 63)];
  const kept = nodes[40] as CacheNode;
  const asked: string[] = [];
  const evictor = new Evictor({
    pool,
    cache,
    store: null,
    ask: async (keys) => {
      asked.push(...keys.map(({ kind }) => kind));
      return keys.filter(({ name }) => name === kept.name);
    },
  });
  evictor.poke();
  evictor.poke();
  await new Promise(setImmediate);
  assert.equal(asked.length, 64);
  assert.ok(kept.alive);
  assert.ok(pool.numFree > 20 && pool.numFree <= 65, `${pool.numFree} pages are free`);
  pool.checkIntegrity(cache.tables());
});
