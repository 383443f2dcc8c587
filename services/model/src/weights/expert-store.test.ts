import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { randomCheckpoint } from '../testing/random-checkpoint.ts';
import { Checkpoint } from './checkpoint.ts';
import { ExpertBytes } from './expert-bytes.ts';
import { EXPERTS_DIR, ExpertStore } from './expert-store.ts';

const NOW_MS = 1_700_000_000_000;
const NONE = (): boolean => false;

interface Opened {
  store: ExpertStore;
  warnings: string[];
}

function open(dir: string, budgetBytes: number | null = 1 << 30): Opened {
  const warnings: string[] = [];
  const store = ExpertStore.open({
    checkpoint: Checkpoint.open(dir),
    budgetBytes,
    onWarning: (message) => warnings.push(message),
    nowMs: () => NOW_MS,
  });
  return { store, warnings };
}

const fileOf = (dir: string, name: string): string => join(dir, EXPERTS_DIR, name);

for (const [what, variant] of [
  ['fused', {}],
  ['separate', { experts: 'separate' }],
  ['FP8', { fp8: true }],
] as const) {
  test(`${what}: experts are found again, byte for byte, by another process too`, async () => {
    using checkpoint = randomCheckpoint(variant);
    const { store } = open(checkpoint.path);
    const whole = Checkpoint.open(checkpoint.path);
    for (const expert of [0, 5]) assert.ok(await store.write(await ExpertBytes.read(whole, 2, expert), NONE));
    for (const { store: any } of [{ store }, open(checkpoint.path)]) {
      assert.deepEqual([any.has(2, 0), any.has(2, 1), any.has(0, 0)], [true, false, false]);
      assert.equal(await any.read(2, 1), null);
      for (const expert of [0, 5])
        assert.deepEqual(await any.read(2, expert), await ExpertBytes.read(whole, 2, expert));
    }
  });
}

const DAMAGES: [what: string, damage: (bytes: Buffer) => Buffer][] = [
  ['a flipped bit of the weights', (bytes) => flip(bytes, bytes.length - 7)],
  ['a flipped bit of the header', (bytes) => flip(bytes, 20)],
  ['a header that is longer than the file', (bytes) => flip(bytes, 6)],
  ['a missing end', (bytes) => bytes.subarray(0, -1)],
  ['a byte too many', (bytes) => Buffer.concat([bytes, Buffer.alloc(1)])],
  ['nothing', () => Buffer.alloc(0)],
  [
    'another checkpoint',
    (bytes) => Buffer.from(bytes.toString('latin1').replace(/[0-9a-f]{32}/, '0'.repeat(32)), 'latin1'),
  ],
  ['another expert', (bytes) => Buffer.from(bytes.toString('latin1').replace('"expert":3', '"expert":4'), 'latin1')],
];

function flip(bytes: Buffer, at: number): Buffer {
  const changed = Buffer.from(bytes);
  changed[at] = (changed[at] ?? 0) ^ 1;
  return changed;
}

for (const [what, damage] of DAMAGES) {
  test(`thrown away: ${what}`, async () => {
    using checkpoint = randomCheckpoint();
    const bytes = await ExpertBytes.read(Checkpoint.open(checkpoint.path), 1, 3);
    await open(checkpoint.path).store.write(bytes, NONE);
    const path = fileOf(checkpoint.path, '1-3.expert');
    writeFileSync(path, damage(readFileSync(path)));
    const { store, warnings } = open(checkpoint.path);
    assert.equal(await store.read(1, 3), null);
    assert.deepEqual([store.has(1, 3), existsSync(path), warnings.length], [false, false, 1]);
    assert.ok(await store.write(bytes, NONE));
    assert.deepEqual(await store.read(1, 3), bytes);
  });
}

test('a full budget takes what was used longest ago and is not needed; else nothing more is kept', async () => {
  using checkpoint = randomCheckpoint();
  const whole = Checkpoint.open(checkpoint.path);
  const bytes = (expert: number): Promise<ExpertBytes> => ExpertBytes.read(whole, 0, expert);
  const probe = open(checkpoint.path);
  await probe.store.write(await bytes(0), NONE);
  const size = probe.store.bytes;
  rmSync(join(checkpoint.path, EXPERTS_DIR), { recursive: true });
  const { store } = open(checkpoint.path, Math.floor(size * 3.5));
  for (const expert of [0, 1, 2]) assert.ok(await store.write(await bytes(expert), NONE));
  await store.read(0, 0);
  const kept = (): number[] => [0, 1, 2, 3, 4, 5].filter((expert) => store.has(0, expert));
  assert.ok(await store.write(await bytes(3), (_layer, expert) => expert === 1));
  assert.deepEqual(kept(), [0, 1, 3]);
  assert.equal(await store.write(await bytes(4), () => true), false);
  assert.deepEqual(kept(), [0, 1, 3]);
  assert.equal(readdirSync(join(checkpoint.path, EXPERTS_DIR)).length, 3);
  assert.ok(store.bytes <= size * 3.5);
});

test('what a process left that died in the middle is cleared away, what one may still write is not', () => {
  using checkpoint = randomCheckpoint();
  mkdirSync(join(checkpoint.path, EXPERTS_DIR));
  for (const [name, ageMs] of [
    ['.draft-old', 7_200_000],
    ['.draft-new', 1000],
    ['notes.txt', 7_200_000],
  ] as const) {
    const path = fileOf(checkpoint.path, name);
    writeFileSync(path, 'x');
    utimesSync(path, (NOW_MS - ageMs) / 1000, (NOW_MS - ageMs) / 1000);
  }
  const { store } = open(checkpoint.path);
  assert.deepEqual(readdirSync(join(checkpoint.path, EXPERTS_DIR)), ['.draft-new', 'notes.txt']);
  assert.equal(store.bytes, 0);
});

test('a disk that takes nothing costs the copy, no more', async () => {
  using checkpoint = randomCheckpoint();
  const { store, warnings } = open(checkpoint.path);
  rmSync(join(checkpoint.path, EXPERTS_DIR), { recursive: true });
  assert.equal(await store.write(await ExpertBytes.read(Checkpoint.open(checkpoint.path), 0, 0), NONE), false);
  assert.equal(store.has(0, 0), false);
  assert.match(warnings[0] ?? '', /0-0\.expert: not kept/);
});
