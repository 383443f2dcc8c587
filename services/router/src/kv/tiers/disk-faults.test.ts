import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { copyFileSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { test, type TestContext } from 'node:test';
import { FakeClock } from '@guildhall/common';
import { eventually } from '@guildhall/common/testing';
import { crc32cReference as crc32c } from '../../testing/crc32c.ts';
import type { Blob } from '../blob.ts';
import { filesBelow, openStore, sameBlob, StoreEvents, temporaryFolder, testBlob } from '../../testing/store-rig.ts';
import { type FileOps, nodeFiles } from './disk-folder.ts';
import { stoppableFiles } from '../../testing/slow-files.ts';

const NONE = new AbortController().signal;

function folderFor(t: TestContext): string {
  const { path, remove } = temporaryFolder();
  t.after(remove);
  return path;
}

/** A file system of `size` bytes of its own, or null where this process may not mount one. */
function mounted(t: TestContext, size: number): string | null {
  const { path, remove } = temporaryFolder();
  const result = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', path]);
  t.after(() => {
    if (result.status === 0) spawnSync('umount', ['-l', path]);
    remove();
  });
  if (result.status === 0) return path;
  t.skip('mounting a file system is not allowed here');
  return null;
}

/** A folder with one blob in it, whose file `spoil` changes. */
async function spoiled(t: TestContext, spoil: (path: string) => void): ReturnType<typeof openStore> {
  const folder = folderFor(t);
  const first = await openStore(folder, { hostBytes: 0 });
  first.store.put(testBlob('a', 5000));
  await first.store.close(60_000);
  const opened = await openStore(folder, { hostBytes: 0 });
  const [file = ''] = filesBelow(folder);
  spoil(join(folder, file));
  t.after(() => opened.store.close());
  return opened;
}

function flip(path: string, at: number): void {
  const bytes = readFileSync(path);
  bytes[at] = (bytes[at] ?? 0) ^ 0x10;
  writeFileSync(path, bytes);
}

const SPOILED: [string, (path: string) => void, string][] = [
  ['in the magic', (path) => flip(path, 3), 'corrupt'],
  ['in the format version', (path) => flip(path, 8), 'corrupt'],
  ['in the number of tokens', (path) => flip(path, 12), 'truncated'],
  ['in the size', (path) => flip(path, 17), 'corrupt'],
  ['in the value', (path) => flip(path, 30), 'corrupt'],
  ['in the checksum', (path) => flip(path, 33), 'corrupt'],
  ['in the kind', (path) => flip(path, 36), 'corrupt'],
  ['in the name space', (path) => flip(path, 41), 'corrupt'],
  ['in the name', (path) => flip(path, 60), 'corrupt'],
  ['in the tokens', (path) => flip(path, 100), 'corrupt'],
  ['in the checksum of the header', (path) => flip(path, 330), 'corrupt'],
  ['in the data', (path) => flip(path, 2000), 'corrupt'],
  ['in the last byte', (path) => flip(path, statSync(path).size - 1), 'corrupt'],
  ['cut short', (path) => truncateSync(path, 4000), 'truncated'],
  ['empty', (path) => truncateSync(path, 0), 'truncated'],
  ['gone', (path) => rmSync(path), 'disk_error'],
];

for (const [where, spoil, fault] of SPOILED) {
  test(`a page file that is damaged (${where}) is never used, counted and removed`, async (t) => {
    const { store, events } = await spoiled(t, spoil);
    const { kind, name } = testBlob('a');
    await store.prefetch([{ kind, name }], NONE);
    assert.equal(await store.get(kind, name), null);
    assert.deepEqual(events.faultKinds, [fault]);
    assert.equal(store.where(kind, name), null);
    assert.deepEqual(events.removals, ['disk fault']);
    await store.idle();
    assert.equal(store.usage()[1]?.usedBytes, 0);
    assert.ok(store.put(testBlob('a', 5000)), 'and the blob can come back');
    await store.idle();
    assert.ok(sameBlob(await store.get(kind, name), testBlob('a', 5000)));
  });
}

test('damage is found at a restart too, by headers; what is not ours by name stays', async (t) => {
  const folder = folderFor(t);
  const first = await openStore(folder, { hostBytes: 0 });
  for (const label of ['a', 'b', 'c']) first.store.put(testBlob(label));
  await first.store.close(60_000);
  const [one = '', two = '', three = ''] = filesBelow(folder).map((path) => join(folder, path));
  flip(one, 40);
  copyFileSync(three, two);
  writeFileSync(join(two, '..', 'readme'), 'mine');
  const { store, events } = await openStore(folder, { hostBytes: 0 });
  await store.idle();
  assert.deepEqual(events.faultKinds, ['corrupt', 'corrupt']);
  assert.equal(events.there.disk.size, 1);
  assert.equal(filesBelow(folder).length, 2);
  await store.close();
});

test('held bytes that are damaged on disk are lost, not wrong', async (t) => {
  const folder = folderFor(t);
  const { store, events } = await openStore(folder, { hostBytes: 0 });
  const data = new Uint8Array(5000).fill(9);
  assert.ok(await store.hold('sequence', data, crc32c(data)));
  const [file = ''] = filesBelow(folder);
  flip(join(folder, file), 1000);
  assert.equal(await store.held('sequence'), null);
  assert.deepEqual(events.faultKinds, ['corrupt']);
  await store.idle();
  assert.deepEqual(filesBelow(folder), []);
  assert.equal(store.usage()[1]?.heldBytes, 0);
  await store.close();
});

test('a full disk: no writes for a while, then within what it had, and more when there is room again', async (t) => {
  const folder = mounted(t, 1 << 20);
  if (folder === null) return;
  const clock = new FakeClock();
  const { store, events } = await openStore(folder, { hostBytes: 0, clock, queueBytes: 16 << 20 });
  // Another program's file leaves half of it.
  writeFileSync(join(folder, 'other'), new Uint8Array(512 << 10));
  const blobs = Array.from({ length: 16 }, (_, i) => testBlob(`${i}`, 60_000));
  for (const blob of blobs) store.put(blob);
  await store.idle();
  assert.deepEqual(events.faultKinds, ['disk_full']);
  const kept = [...store.entries()].length;
  assert.ok(kept > 0 && kept < 9);
  assert.equal(store.put(testBlob('refused', 60_000)), false);
  assert.equal(await store.hold('sequence', new Uint8Array(10), crc32c(new Uint8Array(10))), false);
  for (const { kind, name } of store.entries()) assert.ok((await store.get(kind, name)) !== null);
  await clock.advance(1000);
  assert.ok(store.put(testBlob('later', 60_000, 1000)), 'an older one makes room');
  await store.idle();
  assert.equal(store.where('page', testBlob('later').name), 'disk');
  assert.equal([...store.entries()].length, kept);
  assert.deepEqual(events.recoveries, [], 'the disk is still full');
  rmSync(join(folder, 'other'));
  await clock.advance(60_000);
  for (const blob of blobs) store.put(blob);
  await store.idle();
  assert.ok([...store.entries()].length > kept);
  assert.deepEqual(events.recoveries, ['disk_full']);
  assert.ok(filesBelow(folder).every((path) => path.endsWith('.page')));
  await store.close();
});

test('a disk that becomes read-only is read on, and written again when it can be', async (t) => {
  const folder = mounted(t, 4 << 20);
  if (folder === null) return;
  const clock = new FakeClock();
  const { store, events } = await openStore(folder, { hostBytes: 0, diskBytes: 2 * 8192, clock });
  const [a, b, c] = ['a', 'b', 'c'].map((label) => testBlob(label, 5000)) as [Blob, Blob, Blob];
  store.put(a);
  store.put(b);
  await store.idle();
  const remount = (how: string): number | null => spawnSync('mount', ['-o', `remount,${how}`, folder]).status;
  assert.equal(remount('ro'), 0);
  store.put(c);
  await store.idle();
  assert.deepEqual(events.faultKinds, ['disk_read_only']);
  assert.ok(sameBlob(await store.get('page', a.name), a));
  assert.ok(sameBlob(await store.get('page', b.name), b));
  store.delete('page', b.name);
  await store.idle();
  assert.equal(await store.get('page', b.name), null);
  // The lock is touched now and then, which must not end the process either.
  await clock.advance(30_000);
  assert.equal(store.usage()[1]?.usedBytes, 2 * 8192, 'a file that cannot be removed still counts');
  assert.equal(remount('rw'), 0);
  assert.ok(store.put(c));
  await store.idle();
  assert.ok(sameBlob(await store.get('page', c.name), c));
  assert.equal(store.usage()[1]?.usedBytes, 2 * 8192);
  assert.ok(sameBlob(await store.get('page', a.name), a), 'the one that was to be removed made the room');
  assert.deepEqual(events.recoveries, ['disk_read_only']);
  await store.close();
  assert.equal(filesBelow(folder).length, 2);
});

test('a folder that cannot be used at the start is a warning, and there is no disk tier', async (t) => {
  const folder = mounted(t, 1 << 20);
  if (folder === null) return;
  spawnSync('mount', ['-o', 'remount,ro', folder]);
  const { store, events } = await openStore(folder);
  assert.deepEqual(events.faultKinds, ['disk_read_only']);
  assert.match(events.faults[0]?.detail ?? '', /--kv-disk .* there is no disk tier/);
  assert.equal(store.usage().length, 1);
  assert.ok(store.put(testBlob('a')));
  assert.ok(sameBlob(await store.get('page', testBlob('a').name), testBlob('a')));
  await store.close();
});

test('errors of the device cost the blob only', async (t) => {
  const folder = folderFor(t);
  let broken = false;
  const eio = (): never => {
    throw Object.assign(new Error('EIO: i/o error'), { code: 'EIO' });
  };
  const files: FileOps = {
    ...nodeFiles,
    open: (async (...args: Parameters<FileOps['open']>) =>
      broken ? eio() : nodeFiles.open(...args)) as FileOps['open'],
  };
  const clock = new FakeClock();
  const { store, events } = await openStore(folder, { hostBytes: 0, files, clock });
  store.put(testBlob('a'));
  await store.idle();
  broken = true;
  assert.equal(await store.get('page', testBlob('a').name), null);
  store.put(testBlob('b'));
  await store.idle();
  assert.deepEqual(events.faultKinds, ['disk_error', 'disk_error']);
  assert.equal(store.put(testBlob('c')), false, 'no writes for a while');
  broken = false;
  await clock.advance(1000);
  assert.ok(store.put(testBlob('c')));
  await store.idle();
  assert.ok(sameBlob(await store.get('page', testBlob('c').name), testBlob('c')));
  assert.deepEqual(events.recoveries, ['disk_error']);
  await store.close();
});

test('a folder that is removed under the store is made again', async (t) => {
  const folder = folderFor(t);
  const clock = new FakeClock();
  const { store } = await openStore(folder, { hostBytes: 0, clock });
  store.put(testBlob('a'));
  await store.idle();
  rmSync(folder, { recursive: true });
  assert.equal(await store.get('page', testBlob('a').name), null);
  store.put(testBlob('a'));
  await store.idle();
  await clock.advance(1000);
  assert.ok(store.put(testBlob('a')));
  await store.idle();
  assert.ok(sameBlob(await store.get('page', testBlob('a').name), testBlob('a')));
  await store.close();
});

test('a slow disk keeps no more in memory than the queue may, and drops the oldest', async (t) => {
  const folder = folderFor(t);
  const files = stoppableFiles();
  const queueBytes = 50_000;
  const events = new StoreEvents();
  const { store } = await openStore(folder, { hostBytes: 20_000, queueBytes, files: files.ops, events });
  files.stop();
  for (let i = 0; i < 200; i++) {
    store.put(testBlob(`${i}`, 5000));
    const [host, disk] = store.usage();
    assert.ok((host?.usedBytes ?? 0) <= 20_000 && (disk?.pendingBytes ?? 0) <= queueBytes);
    if (i % 10 === 0) await turn();
  }
  assert.ok(events.writeBacks.dropped > 150);
  const waiting = testBlob('190', 5000);
  assert.equal(store.where('page', waiting.name), 'host', 'what waits can be had');
  assert.ok(sameBlob(await store.get('page', waiting.name), waiting));
  files.go();
  await eventually(() => events.there.disk.size > 0, 'a write to end');
  await store.idle();
  assert.equal(store.usage()[1]?.pendingBytes, 0);
  assert.deepEqual(events.nonsense, []);
  await store.close();
});

test('a delete that meets a write in flight wins', async (t) => {
  const folder = folderFor(t);
  const files = stoppableFiles();
  const { store, events } = await openStore(folder, { hostBytes: 0, files: files.ops });
  files.stop();
  store.put(testBlob('a'));
  store.put(testBlob('b'));
  await turn();
  store.delete('page', testBlob('a').name);
  store.delete('page', testBlob('b').name);
  const held = store.hold('sequence', new Uint8Array(10), crc32c(new Uint8Array(10)));
  store.release('sequence');
  assert.equal(store.where('page', testBlob('a').name), null);
  assert.ok(store.put(testBlob('b', 1000, 60)));
  files.go();
  assert.equal(await held, false);
  await store.idle();
  assert.equal(store.where('page', testBlob('a').name), null);
  assert.equal(store.where('page', testBlob('b').name), 'disk');
  assert.equal(filesBelow(folder).length, 1);
  assert.equal(store.usage()[1]?.usedBytes, 4096);
  assert.deepEqual([...events.there.disk].length, 1);
  await store.close();
});

test('a disk that hangs costs a miss, not a wait without end', async (t) => {
  const folder = folderFor(t);
  const first = await openStore(folder, { hostBytes: 0 });
  first.store.put(testBlob('a', 5000));
  await first.store.close(60_000);
  const files = stoppableFiles();
  const clock = new FakeClock();
  const { store, events } = await openStore(folder, { hostBytes: 0, clock, files: files.ops });
  files.stop();
  const read = store.get('page', testBlob('a').name);
  await clock.advance(10_000);
  assert.equal(await read, null);
  assert.deepEqual(events.faultKinds, ['stalled']);
  files.go();
  const blob = testBlob('a', 5000);
  await eventually(async () => sameBlob(await store.get('page', blob.name), blob), 'a later read');
  await store.close();
});
