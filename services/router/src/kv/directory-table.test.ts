import assert from 'node:assert/strict';
import { test } from 'node:test';
import { entryKey, type EntryTier, type PageName } from '@guildhall/common';
import fc from 'fast-check';
import type { BlobKind, Tier } from './blob.ts';
import { type Batch, DirectoryTable } from './directory-table.ts';

const NAMES = Array.from({ length: 6 }, (_, i) => String.fromCharCode(0x61 + i).repeat(16) as PageName);
const name = (i: number): PageName => NAMES[i] as PageName;
const info = (i: number, kind: BlobKind = 'page') => ({ kind, name: name(i), size: 100, value: 1 });

/** What Redis and the tiers hold, without any cleverness. */
class Truth {
  readonly redis = new Map<string, EntryTier>();
  readonly tiers = new Map<string, Set<Tier>>();

  wanted(): Map<string, EntryTier> {
    const wanted = new Map<string, EntryTier>();
    for (const [key, has] of this.tiers) {
      const tier = (['device', 'host', 'disk'] as const).find((one) => has.has(one));
      if (tier !== undefined) wanted.set(key, tier);
    }
    return wanted;
  }

  write({ added, removed }: Batch): void {
    for (const { kind, name: n, tier } of added) this.redis.set(entryKey(kind, n), tier);
    for (const { kind, name: n } of removed) this.redis.delete(entryKey(kind, n));
  }

  /** What a full Redis does. */
  remove({ removed }: Batch): void {
    for (const { kind, name: n } of removed) this.redis.delete(entryKey(kind, n));
  }
}

type ValueOf<T> = T extends fc.Arbitrary<infer V> ? V : never;

const sortedOf = (map: Map<string, EntryTier>): [string, EntryTier][] => [...map].sort(([a], [b]) => (a < b ? -1 : 1));

const change = fc.record({
  what: fc.constantFrom('add' as const, 'remove' as const),
  tier: fc.constantFrom<Tier>('device', 'host', 'disk', 'peer'),
  kind: fc.constantFrom<BlobKind>('page', 'state'),
  entry: fc.nat(NAMES.length - 1),
});
const send = fc.record({
  what: fc.constant('send' as const),
  outcome: fc.constantFrom('written', 'full', 'lost-before', 'lost-after'),
  limit: fc.integer({ min: 1, max: 5 }),
  /** Changes while the call is on its way. */
  during: fc.array(change, { maxLength: 3 }),
});
const other = fc.constantFrom(
  { what: 'retry' as const },
  { what: 'evict' as const },
  { what: 'fence' as const },
  { what: 'start' as const },
);
const action = fc.oneof(
  { weight: 4, arbitrary: change },
  { weight: 3, arbitrary: send },
  { weight: 1, arbitrary: other },
);

function apply(table: DirectoryTable, truth: Truth, { what, tier, kind, entry }: ValueOf<typeof change>): void {
  const key = entryKey(kind, name(entry));
  const has = truth.tiers.get(key) ?? new Set();
  truth.tiers.set(key, has);
  if (what === 'add') {
    table.add(tier, info(entry, kind));
    has.add(tier);
  } else {
    table.remove(tier, kind, name(entry));
    has.delete(tier);
  }
}

function sendOnce(table: DirectoryTable, truth: Truth, { outcome, limit, during }: ValueOf<typeof send>): void {
  const batch = table.take(limit);
  assert.ok(batch.added.length + batch.removed.length <= limit);
  for (const one of during) apply(table, truth, one);
  if (outcome === 'written' || outcome === 'lost-after') truth.write(batch);
  if (outcome === 'full') truth.remove(batch);
  if (outcome === 'written' || outcome === 'full') table.confirm(batch, outcome === 'full');
  else table.failed(batch);
}

function step(table: DirectoryTable, truth: Truth, one: ValueOf<typeof action>): void {
  if (one.what === 'add' || one.what === 'remove') apply(table, truth, one);
  else if (one.what === 'send') sendOnce(table, truth, one);
  else if (one.what === 'retry') table.retry();
  else if (one.what === 'evict') {
    truth.redis.delete(entryKey('page', name(0)));
    table.evicted(info(0));
    // Who evicts drops all copies.
    for (const tier of ['device', 'host', 'disk'] as const)
      apply(table, truth, { what: 'remove', tier, kind: 'page', entry: 0 });
  } else if (one.what === 'fence') {
    truth.redis.clear();
    table.unlist();
  } else {
    truth.redis.clear();
    const all = [...truth.tiers].flatMap(([key, has]) =>
      [...has].map((tier) => ({
        ...info(0),
        kind: key[0] === 'p' ? ('page' as const) : ('state' as const),
        name: key.slice(1) as PageName,
        tier,
      })),
    );
    table.reset(all);
  }
}

function drain(table: DirectoryTable, truth: Truth): void {
  table.retry();
  while (table.pending > 0) {
    const batch = table.take(3);
    truth.write(batch);
    table.confirm(batch, false);
  }
}

test('whatever fails, is full, changes meanwhile or starts over: in the end Redis has what the tiers have', () => {
  fc.assert(
    fc.property(fc.array(action, { maxLength: 60 }), (actions) => {
      const table = new DirectoryTable(1000);
      const truth = new Truth();
      for (const one of actions) step(table, truth, one);
      drain(table, truth);
      assert.deepEqual(sortedOf(truth.redis), sortedOf(truth.wanted()));
      assert.deepEqual([table.listed, table.pending, table.waiting], [truth.redis.size, 0, 0]);
    }),
    { numRuns: 3000 },
  );
});

test('changes that cancel out are not sent, and a farther copy is no news', () => {
  const table = new DirectoryTable(10);
  table.add('device', info(0));
  table.remove('device', 'page', name(0));
  table.add('peer', info(1));
  assert.equal(table.pending, 0);
  table.add('host', info(2));
  table.confirm(table.take(10), false);
  table.add('disk', info(2));
  assert.equal(table.pending, 0);
  table.remove('host', 'page', name(2));
  assert.deepEqual(
    table.take(10).added.map(({ tier }) => tier),
    ['disk'],
  );
});

test('no more than the limit is listed; the rest waits until there is room', () => {
  const table = new DirectoryTable(3);
  for (let i = 0; i < 5; i++) table.add('device', info(i));
  const first = table.take(10);
  table.confirm(first, false);
  assert.deepEqual([first.added.length, table.listed, table.waiting, table.pending], [3, 3, 2, 0]);
  table.remove('device', 'page', name(0));
  table.retry();
  let second = table.take(10);
  table.confirm(second, false);
  table.retry();
  second = table.take(10);
  table.confirm(second, false);
  assert.deepEqual([table.listed, table.waiting], [3, 1]);
});
