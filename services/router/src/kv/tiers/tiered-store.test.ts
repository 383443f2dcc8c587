import assert from 'node:assert/strict';
import { existsSync, mkdirSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { FakeClock, isGuildhallError, type PageName } from '@guildhall/common';
import { blobKey } from '../blob.ts';
import { crc32cReference as crc32c } from '../../testing/crc32c.ts';
import { filesBelow, openStore, sameBlob, StoreEvents, temporaryFolder, testBlob } from '../../testing/store-rig.ts';

function folderFor(t: TestContext): string {
  const { path, remove } = temporaryFolder();
  t.after(remove);
  return path;
}

test('host memory keeps what is worth most, within its limit', async () => {
  const { store, events } = await openStore(null, { hostBytes: 3000 });
  const dear = testBlob('dear', 1000, 500);
  const used = testBlob('used', 1000, 20);
  assert.ok(store.put(dear) && store.put(used) && store.put(testBlob('idle', 1000, 10)));
  assert.ok(store.put(testBlob('next', 1000, 15)));
  assert.equal(store.where('page', testBlob('idle').name), null);
  assert.ok(sameBlob(await store.get('page', used.name), used));
  assert.ok(sameBlob(await store.get('page', dear.name), dear));
  assert.equal(store.put(testBlob('huge', 3001, 1e9)), false);
  assert.equal(store.usage()[0]?.usedBytes, 3000);
  assert.deepEqual(events.removals, ['host evicted']);
  store.delete('page', dear.name);
  assert.equal(await store.get('page', dear.name), null);
  assert.deepEqual(
    [...store.entries()].map(({ tier, size }) => [tier, size]),
    [
      ['host', 1000],
      ['host', 1000],
    ],
  );
  await store.close();
});

test('tokens of a blob do not keep the prompt that they are a part of', async () => {
  const { store } = await openStore(null);
  const blob = { ...testBlob('a'), tokens: new Int32Array(10_000).subarray(64, 128) };
  store.put(blob);
  assert.equal((await store.get('page', blob.name))?.tokens.buffer.byteLength, 256);
  await store.close();
});

test('bytes that change in host memory are a fault and not an answer', async () => {
  const { store, events } = await openStore(null);
  const blob = testBlob('a');
  store.put(blob);
  blob.data[500] = (blob.data[500] ?? 0) ^ 1;
  assert.equal(await store.get('page', blob.name), null);
  assert.equal(store.where('page', blob.name), null);
  assert.deepEqual(events.faultKinds, ['checksum']);
  await store.close();
});

test('what leaves host memory is found on disk, and comes back', async (t) => {
  const { store, events } = await openStore(folderFor(t), { hostBytes: 2000 });
  const blobs = ['a', 'b', 'c', 'd'].map((label) => testBlob(label));
  for (const blob of blobs) assert.ok(store.put(blob));
  await store.idle();
  assert.equal(events.there.disk.size, 2);
  for (const blob of blobs) assert.ok(sameBlob(await store.get('page', blob.name), blob));
  assert.deepEqual(events.faults, []);
  assert.deepEqual(events.nonsense, []);
  await store.close();
});

test('a page and a state of one name are two blobs', async (t) => {
  const folder = folderFor(t);
  const first = await openStore(folder, { hostBytes: 0 });
  const page = testBlob('a', 500, 50, 'page');
  const state = testBlob('a', 700, 50, 'state');
  assert.ok(first.store.put(page) && first.store.put(state));
  await first.store.close(60_000);
  const { store } = await openStore(folder, { hostBytes: 0 });
  assert.ok(sameBlob(await store.get('page', page.name), page));
  assert.ok(sameBlob(await store.get('state', state.name), state));
  assert.deepEqual({ pages: 1, states: 1 }, pick(store.usage()[1]));
  store.delete('state', state.name);
  assert.deepEqual({ pages: 1, states: 0 }, pick(store.usage()[1]));
  await store.close();
  assert.equal(filesBelow(folder).length, 1);
});

function pick(usage?: { pages: number; states: number }): { pages: number; states: number } | null {
  return usage === undefined ? null : { pages: usage.pages, states: usage.states };
}

test('closing writes what host memory has, best first; a restart finds it and tells of it', async (t) => {
  const folder = folderFor(t);
  const first = await openStore(folder);
  const blobs = Array.from({ length: 20 }, (_, i) => testBlob(`${i}`, 1000 + i, 50 + i));
  for (const blob of blobs) first.store.put(blob);
  const worthless = testBlob('worthless', 100_000, 0.001);
  first.store.put(worthless);
  await first.store.close(60_000);
  const { store, events } = await openStore(folder);
  assert.deepEqual(events.there.disk, new Set(blobs.map(({ kind, name }) => blobKey(kind, name))));
  assert.deepEqual(
    new Set(Array.from(store.entries(), ({ size, value, tier }) => `${size} ${value} ${tier}`)),
    new Set(blobs.map(({ size, value }) => `${size} ${value} disk`)),
  );
  for (const blob of blobs) assert.ok(sameBlob(await store.get('page', blob.name), blob));
  assert.equal(store.where('page', worthless.name), null);
  await store.close();
});

test('what has been in host memory for a while is written before it has to go', async (t) => {
  const clock = new FakeClock();
  const { store, events } = await openStore(folderFor(t), { clock });
  store.put(testBlob('a'));
  await clock.advance(4000);
  await store.idle();
  assert.equal(events.writeBacks.written, 0);
  await clock.advance(3000);
  await store.idle();
  assert.equal(events.writeBacks.written, 1);
  assert.equal(store.where('page', testBlob('a').name), 'host');
  assert.equal([...store.entries()].length, 1, 'one entry, from its nearest tier');
  await store.close();
});

test('leased blobs stay where they are', async (t) => {
  const leased = new Set(['a', 'b', 'c'].map((label) => testBlob(label).name));
  const isLeased = ({ name }: { name: string }): boolean => leased.has(name as PageName);
  for (const path of [null, folderFor(t)]) {
    const limits = path === null ? { hostBytes: 4000 } : { hostBytes: 0, diskBytes: 4 * 4096 };
    const { store } = await openStore(path, { ...limits, isLeased });
    for (const label of ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h']) {
      store.put(testBlob(label));
      await store.idle();
    }
    for (const name of leased) assert.notEqual(store.where('page', name), null);
    assert.equal(store.put(testBlob('too large', 14_000, 1e9)) && path === null, false);
    await store.idle();
    assert.equal([...store.entries()].length, 4);
    leased.clear();
    store.put(testBlob('now', 3500, 1e6));
    await store.idle();
    assert.notEqual(store.where('page', testBlob('now').name), null);
    for (const label of ['a', 'b', 'c']) leased.add(testBlob(label).name);
    await store.close();
  }
});

test('prefetch fills host memory and no more, and stops when it is told to', async (t) => {
  const folder = folderFor(t);
  const keys = Array.from({ length: 10 }, (_, i) => testBlob(`${i}`, 4000));
  const first = await openStore(folder, { hostBytes: 0 });
  for (const blob of keys) first.store.put(blob);
  await first.store.close(60_000);
  const { store, events } = await openStore(folder, { hostBytes: 42_000 });
  await store.prefetch(keys, AbortSignal.abort());
  assert.equal(events.there.host.size, 0);
  await store.prefetch([testBlob('unknown'), ...keys.slice(0, 2)], new AbortController().signal);
  assert.equal(events.there.host.size, 2);
  await store.prefetch([...keys, ...keys], new AbortController().signal);
  assert.equal(store.where('page', testBlob('9').name), 'host');
  await store.close();
  const small = await openStore(folder, { hostBytes: 10_000 });
  await small.store.prefetch(keys, new AbortController().signal);
  assert.equal(small.events.there.host.size, 2);
  assert.deepEqual(small.events.removals, [], 'the first pages are not pushed out by the last');
  await small.store.close();
});

test('held bytes are never evicted, count against the limit, and go to disk where memory is full', async (t) => {
  const folder = folderFor(t);
  const { store, events } = await openStore(folder, { hostBytes: 10_000, diskBytes: 40_960 });
  store.put(testBlob('blob', 4000));
  const bytes = (size: number, fill: number): Uint8Array => new Uint8Array(size).fill(fill);
  const hold = (key: string, size: number, fill: number): Promise<boolean> =>
    store.hold(key, bytes(size, fill), crc32c(bytes(size, fill)));
  assert.equal(await hold('s1', 8000, 1), true);
  await store.idle();
  assert.equal(store.where('page', testBlob('blob').name), 'disk', 'the blob gave way');
  assert.equal(await hold('s2', 12_000, 2), true);
  assert.equal(store.usage()[1]?.heldBytes, 12_288);
  assert.equal(await hold('s3', 50_000, 3), false, 'larger than both');
  for (let i = 0; i < 50; i++) store.put(testBlob(`more ${i}`, 1500, 1000));
  await store.idle();
  assert.deepEqual(await store.held('s1'), bytes(8000, 1));
  assert.deepEqual(Uint8Array.from((await store.held('s2')) ?? []), bytes(12_000, 2));
  store.release('s1');
  store.release('s2');
  assert.equal(await store.held('s1'), null);
  assert.equal(await store.held('s2'), null);
  await store.idle();
  assert.deepEqual(
    store.usage().map(({ heldBytes }) => heldBytes),
    [0, 0],
  );
  assert.deepEqual(events.faults, []);
  await store.close();
});

test('held bytes of a dead process and temporary files are removed at the start', async (t) => {
  const folder = folderFor(t);
  const first = await openStore(folder, { hostBytes: 0 });
  await first.store.hold('sequence', new Uint8Array(100), crc32c(new Uint8Array(100)));
  first.store.put(testBlob('kept'));
  await first.store.idle();
  const held = filesBelow(folder).find((path) => path.endsWith('.held')) ?? '';
  const blob = filesBelow(folder).find((path) => path.endsWith('.page')) ?? '';
  await first.store.close(60_000);
  assert.ok(held !== '' && !existsSync(join(folder, held)), 'closing removes them too');
  writeFileSync(join(folder, `${blob}.7.tmp`), 'half');
  mkdirSync(join(folder, held, '..'), { recursive: true });
  writeFileSync(join(folder, held), 'sequence');
  writeFileSync(join(folder, `${held}.3.tmp`), 'half');
  writeFileSync(join(folder, 'notes.txt'), 'not ours');
  const { store } = await openStore(folder);
  assert.deepEqual(filesBelow(folder), ['notes.txt', blob].sort());
  await store.close();
});

test('two models share a folder: neither sees the other, and the absent one gives way first', async (t) => {
  const folder = folderFor(t);
  const other = { fingerprint: 'model', numericsId: 'another class' };
  const blobs = Array.from({ length: 8 }, (_, i) => testBlob(`${i}`, 4000));
  const first = await openStore(folder, { hostBytes: 0, space: other });
  for (const blob of blobs) first.store.put(blob);
  await first.store.close(60_000);
  // 8 blobs of two blocks each are there; the limit leaves room for two more.
  const diskBytes = 10 * 8192;
  const second = await openStore(folder, { hostBytes: 0, diskBytes });
  assert.equal(second.store.usage()[1]?.usedBytes, 8 * 8192);
  for (const blob of blobs.slice(0, 4)) {
    assert.equal(await second.store.get('page', blob.name), null);
    second.store.put(blob);
    await second.store.idle();
  }
  assert.equal(second.events.there.disk.size, 4);
  assert.equal(second.store.usage()[1]?.usedBytes, diskBytes);
  await second.store.close();
  const third = await openStore(folder, { hostBytes: 0, space: other });
  assert.equal(third.events.there.disk.size, 6, 'two of the others made room');
  await third.store.close();
});

test('a limit that shrank is kept to from the start: what was used longest ago goes', async (t) => {
  const folder = folderFor(t);
  const first = await openStore(folder, { hostBytes: 0 });
  for (let i = 0; i < 8; i++) first.store.put(testBlob(`${i}`, 4000));
  await first.store.close(60_000);
  for (const path of filesBelow(folder)) utimesSync(join(folder, path), 1e9, 1e9);
  const again = await openStore(folder, { hostBytes: 0 });
  assert.ok(await again.store.get('page', testBlob('3').name));
  await again.store.close(60_000);
  const { store, events } = await openStore(folder, { diskBytes: 3 * 8192 });
  assert.equal(events.there.disk.size, 3);
  assert.equal(store.where('page', testBlob('3').name), 'disk');
  assert.equal(filesBelow(folder).length, 3);
  await store.close();
});

test('one router to a folder; a file is no folder; others may not read it', async (t) => {
  const folder = join(folderFor(t), 'made', 'on the way');
  const { store } = await openStore(folder);
  const refusal = (message: RegExp) => (err: unknown) => {
    assert.ok(isGuildhallError(err) && err.code === 'config_invalid');
    assert.match(err.message, message);
    return true;
  };
  await assert.rejects(openStore(folder), refusal(/--kv-disk .* is in use by process \d+/));
  store.put(testBlob('a'));
  await store.close();
  const [file = ''] = filesBelow(folder);
  assert.equal(statSync(folder).mode & 0o077, 0);
  assert.equal(statSync(join(folder, file)).mode & 0o077, 0);
  await assert.rejects(openStore(join(folder, file)), refusal(/--kv-disk .* is not a folder/));
  await assert.rejects(openStore(join(folder, file, 'below')), refusal(/is not a folder/));
  const again = await openStore(folder);
  await again.store.close(60_000);
});

test('a holder in another container is waited for: it may be the dead predecessor', async (t) => {
  const folder = folderFor(t);
  const lock = join(folder, 'guildhall-kv.lock');
  const elsewhere = JSON.stringify({ pid: 1, startTicks: '1', host: 'another host' });
  const clock = new FakeClock(Date.now());
  writeFileSync(lock, elsewhere);
  const { store } = await advancing(clock, openStore(folder, { clock }));
  await store.close();
  writeFileSync(lock, elsewhere);
  // Touched all the time: it lives.
  const later = clock.nowMs() / 1000 + 3600;
  utimesSync(lock, later, later);
  await assert.rejects(advancing(clock, openStore(folder, { clock })), /in use by process 1 on another host/);
});

/** Moves time on until `work` has ended. */
async function advancing<T>(clock: FakeClock, work: Promise<T>): Promise<T> {
  let ended = false;
  const end = (): void => void (ended = true);
  work.then(end, end);
  while (!ended) await clock.advance(1000);
  return await work;
}

test('a store that is closed takes nothing and says nothing', async (t) => {
  const { store } = await openStore(folderFor(t), { events: new StoreEvents() });
  await store.close();
  await store.close();
  assert.equal(store.put(testBlob('late')), false);
  assert.equal(await store.hold('late', new Uint8Array(8), 0), false);
});
