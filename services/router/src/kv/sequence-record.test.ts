import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import type { PageName } from '@guildhall/common';
import fc from 'fast-check';
import { HeldBytes } from '../testing/held-bytes.ts';
import { PagePool, pagesFor } from './page-pool.ts';
import {
  type RecordSource,
  type RecordTarget,
  releaseRecord,
  type SwapTransfer,
  swapIn,
  swapOut,
} from './sequence-record.ts';
import type { SlotId } from './state-slots.ts';

/** Pools whose pages and slots are short arrays; exports are copies. */
class PlainPools implements SwapTransfer {
  readonly pages = new Map<number, Uint8Array>();
  readonly states = new Map<number, Uint8Array>();
  failAfter = Infinity;

  async exportPages(pages: Int32Array, group: number): Promise<{ parts: Uint8Array[]; checksums: Uint32Array }> {
    assert.equal(group, 1);
    await Promise.resolve();
    this.failAfter -= 1;
    if (this.failAfter < 0) throw new Error('broke');
    const parts = Array.from(pages, (page) => (this.pages.get(page) as Uint8Array).slice());
    return { parts, checksums: new Uint32Array(parts.length) };
  }

  async importPages(pages: Int32Array, parts: readonly Uint8Array[]): Promise<void> {
    await Promise.resolve();
    assert.equal(pages.length, parts.length);
    for (const [i, page] of pages.entries()) this.pages.set(page, (parts[i] as Uint8Array).slice());
  }

  async exportState(slot: number): Promise<{ data: Uint8Array; checksum: number }> {
    await Promise.resolve();
    return { data: (this.states.get(slot) as Uint8Array).slice(), checksum: 0 };
  }

  async importState(slot: number, data: Uint8Array): Promise<void> {
    await Promise.resolve();
    this.states.set(slot, data.slice());
  }
}

const SLOT = 3 as SlotId;
const OTHER_SLOT = 4 as SlotId;

function copier(tokens: Int32Array): RecordSource['copyTokens'] {
  return (start, count, into, offset) => into.set(tokens.subarray(start, start + count), offset);
}

function sourceOf(numComputed: number, firstOwnPage = 0, slot: SlotId | null = SLOT) {
  const pools = new PlainPools();
  const pool = new PagePool(2000);
  const pages = pool.allocate(pagesFor(numComputed) + 2);
  for (const page of pages) pools.pages.set(page, Uint8Array.of(page, page * 3, 7));
  pools.states.set(SLOT, Uint8Array.of(1, 2, 3, 4, 5));
  const tokens = Int32Array.from({ length: numComputed + 20 }, (_, i) => (i * 31) % 977);
  const shared = Array.from({ length: firstOwnPage }, (_, i) => `name${i}` as PageName);
  const source: RecordSource = {
    numComputed,
    pages,
    slot,
    shared,
    firstOwnPage,
    publishes: true,
    copyTokens: copier(tokens),
  };
  const target = (): RecordTarget => {
    const others = [...pages.slice(0, firstOwnPage), ...pool.allocate(pages.length - firstOwnPage)];
    return {
      pages: others,
      slot: slot === null ? null : OTHER_SLOT,
      copyTokens: copier(tokens),
      numTokens: tokens.length,
    };
  };
  return { pools, source, tokens, target };
}

test('property: what comes back is what was there, page for page', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.integer({ min: 1, max: 6000 }),
      fc.nat(100),
      fc.boolean(),
      async (numComputed, most, stateful) => {
        const shared = Math.min(most, pagesFor(numComputed));
        const { pools, source, tokens, target } = sourceOf(numComputed, shared, stateful ? SLOT : null);
        const store = new HeldBytes();
        const record = await swapOut(source, 'k', { transfer: pools, store });
        assert.ok(record !== null);
        const own = pagesFor(numComputed) - shared;
        assert.equal(record.bytes, own * 3 + (stateful ? 5 : 0));
        assert.equal(record.bytes, store.used);
        assert.deepEqual(record.shared, source.shared);
        const bytes = Buffer.from(tokens.buffer, 0, 4 * numComputed);
        assert.deepEqual(record.tokenDigest, createHash('sha256').update(bytes).digest());
        const to = target();
        assert.ok(await swapIn(to, record, { transfer: pools, store }));
        for (let page = shared; page < pagesFor(numComputed); page++) {
          const [from, into] = [source.pages[page] as number, to.pages[page] as number];
          assert.notEqual(from, into);
          assert.deepEqual(pools.pages.get(into), pools.pages.get(from));
        }
        assert.deepEqual(pools.states.get(OTHER_SLOT), stateful ? pools.states.get(SLOT) : undefined);
        releaseRecord(record, store);
        assert.equal(store.blobs.size, 0);
      },
    ),
    { numRuns: 50 },
  );
});

test('without room nothing is held in the end', async () => {
  const { pools, source } = sourceOf(64 * 40);
  for (const capacity of [0, 3, 90, 121, 124]) {
    const store = new HeldBytes(capacity);
    assert.equal(await swapOut(source, 'k', { transfer: pools, store }), null, `${capacity} bytes`);
    assert.equal(store.blobs.size, 0);
  }
  assert.notEqual(await swapOut(source, 'k', { transfer: pools, store: new HeldBytes(125) }), null);
});

test('a sequence that nobody wants any more, or that the pool cannot read, leaves nothing held', async () => {
  const { pools, source } = sourceOf(64 * 100);
  const store = new HeldBytes();
  let asked = 0;
  assert.equal(await swapOut(source, 'k', { transfer: pools, store }, () => ++asked < 2), null);
  assert.equal(store.blobs.size, 0);
  pools.failAfter = 2;
  await assert.rejects(swapOut(source, 'k', { transfer: pools, store }), /broke/);
  assert.equal(store.blobs.size, 0);
});

test('a page that is lost, a state that is lost, or other tokens: not taken', async () => {
  const { pools, source, target, tokens } = sourceOf(500);
  const store = new HeldBytes();
  const deps = { transfer: pools, store };
  for (const lost of ['k/2', 'k/state']) {
    const record = await swapOut(source, 'k', deps);
    assert.ok(record !== null);
    store.release(lost);
    assert.equal(await swapIn(target(), record, deps), false);
    releaseRecord(record, store);
  }
  const record = await swapOut(source, 'k', deps);
  assert.ok(record !== null);
  assert.equal(await swapIn({ ...target(), numTokens: 499 }, record, deps), false);
  const others = Int32Array.from(tokens);
  others[499] = (others[499] as number) + 1;
  assert.equal(await swapIn({ ...target(), copyTokens: copier(others) }, record, deps), false);
  others[499] = tokens[499] as number;
  others[500] = -1;
  assert.equal(await swapIn({ ...target(), copyTokens: copier(others) }, record, deps), true);
});
