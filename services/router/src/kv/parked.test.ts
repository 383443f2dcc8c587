import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '@guildhall/common';
import { type ParkedEnd, type ParkedRecord, ParkedSequences } from './parked.ts';

function rig(): {
  clock: FakeClock;
  parked: ParkedSequences;
  ends: ParkedEnd[];
  record: () => ParkedRecord;
  freed: () => number;
} {
  const clock = new FakeClock();
  const ends: ParkedEnd[] = [];
  let freed = 0;
  const record = (): ParkedRecord => ({
    numComputed: 0,
    tokenDigest: new Uint8Array(32),
    numPages: 0,
    firstOwnPage: 0,
    page: async () => null,
    state: async () => null,
    release: () => (freed += 1),
  });
  const parked = new ParkedSequences({ clock, limitMs: 1000, onEnd: (how) => ends.push(how) });
  return { clock, parked, ends, record, freed: () => freed };
}

test('handles are long and never the same', () => {
  const { parked, record } = rig();
  const handles = new Set(Array.from({ length: 100 }, () => parked.park(record())));
  assert.equal(handles.size, 100);
  for (const handle of handles) assert.match(handle, /^[\w-]{32}$/);
  parked.drop();
});

test('who is not taken over in time is given up, and its memory with it', async () => {
  const { clock, parked, ends, record, freed } = rig();
  const handle = parked.park(record());
  await clock.advance(999);
  assert.notEqual(parked.open(handle), null);
  const other = parked.park(record());
  await clock.advance(1);
  assert.equal(parked.open(handle), null);
  assert.deepEqual([ends, parked.size], [['expired'], 1]);
  // A transfer still reads it.
  assert.equal(freed(), 0);
  assert.equal(parked.release(other), true);
  assert.deepEqual([ends, freed(), clock.pending], [['expired', 'taken'], 1, 0]);
});

test('a record lives as long as a transfer reads it', async () => {
  const { parked, ends, record, freed } = rig();
  const handle = parked.park(record());
  const first = parked.open(handle);
  const second = parked.open(handle);
  assert.equal(parked.release(handle), true);
  assert.equal(parked.release(handle), false);
  first?.close();
  first?.close();
  assert.equal(freed(), 0);
  second?.close();
  assert.deepEqual([freed(), ends], [1, ['taken']]);
});

test('dropping frees all', () => {
  const { clock, parked, ends, record, freed } = rig();
  for (let i = 0; i < 3; i++) parked.park(record());
  parked.drop();
  assert.deepEqual([parked.size, freed(), clock.pending], [0, 3, 0]);
  assert.deepEqual(ends, ['dropped', 'dropped', 'dropped']);
});
