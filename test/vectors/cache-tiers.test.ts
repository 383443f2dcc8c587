import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test, type TestContext } from 'node:test';
import { CacheRig, type RigRouter } from '../harness/cache-rig.ts';
import { type Answer, bitsOf } from '../harness/router-client.ts';
import { sumOf } from '../harness/samples.ts';
import { until } from '../harness/wait.ts';
import { tokensOf } from './lib/conversations.ts';
import { checkpointDir } from './lib/paths.ts';

const HYBRID = 'q3-next';
const ATTENTION = 'q3-moe';
/** 7 whole pages before its end. */
const PROMPT = tokensOf(31, 500, 192);

let rig: CacheRig;
const expected = new Map<string, Answer>();

before(async () => {
  rig = await CacheRig.start();
  for (const model of [HYBRID, ATTENTION]) {
    const plain = await rig.router(checkpointDir(model), { numPages: 60, args: ['--prefix-cache', 'off'] });
    expected.set(model, await plain.client.generate({ promptIds: PROMPT }));
    await plain.stop();
  }
});
after(async () => rig?.stop());

/** A router that keeps everything on disk, and nothing in host memory. */
async function router(model: string, folder: string, limit = '16MiB'): Promise<RigRouter> {
  const args = ['--kv-disk', folder, '--kv-disk-limit', limit, '--kv-host-memory', '0'];
  return await rig.router(checkpointDir(model), { numPages: 60, args });
}

/** Answers the prompt, with the bits of a router without a cache; returns how many tokens came from the cache. */
async function cached(model: string, { client }: RigRouter): Promise<number> {
  const answer = await client.generate({ promptIds: PROMPT });
  assert.deepEqual(bitsOf(answer), bitsOf(expected.get(model) as Answer));
  return answer.finished?.cachedTokens ?? -1;
}

async function faults(of: RigRouter, kind: string): Promise<number> {
  return sumOf(await of.samples(), 'guildhall_kv_faults_total', `kind="${kind}"`);
}

function files(folder: string, ending: string): string[] {
  return readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith(ending))
    .map((name) => join(folder, name));
}

/** A folder in which a router has left the pages of the prompt. */
async function filled(model: string, folder: string): Promise<void> {
  const first = await router(model, folder);
  assert.equal(await cached(model, first), 0);
  const complete = (): boolean =>
    files(folder, '.page').length >= 7 && (model === ATTENTION || files(folder, '.state').length > 0);
  await until('the pages to be on disk', complete);
  await first.stop();
}

function flip(path: string, fromEnd: number): void {
  const bytes = readFileSync(path);
  bytes[bytes.length - fromEnd] = (bytes[bytes.length - fromEnd] ?? 0) ^ 1;
  writeFileSync(path, bytes);
}

const DAMAGE: { what: string; model: string; spoil: (folder: string) => void; fault: string }[] = [
  {
    what: 'a flipped bit in every page',
    model: HYBRID,
    spoil: (folder) => files(folder, '.page').forEach((path) => flip(path, 100)),
    fault: 'corrupt',
  },
  {
    what: 'a flipped bit in the state',
    model: HYBRID,
    spoil: (folder) => files(folder, '.state').forEach((path) => flip(path, 1)),
    fault: 'corrupt',
  },
  {
    what: 'pages cut short',
    model: ATTENTION,
    spoil: (folder) => files(folder, '.page').forEach((path) => truncateSync(path, 1000)),
    fault: 'truncated',
  },
  {
    what: 'pages under each other’s names',
    model: ATTENTION,
    spoil(folder) {
      const paths = files(folder, '.page');
      const contents = paths.map((path) => readFileSync(path));
      paths.forEach((path, i) => writeFileSync(path, contents[(i + 1) % paths.length] as Buffer));
    },
    fault: 'corrupt',
  },
];

for (const [i, { what, model, spoil, fault }] of DAMAGE.entries()) {
  test(`${what} on disk: computed again with the same bits, counted, and kept again`, async () => {
    const folder = join(rig.dir, `damage-${i}`);
    await filled(model, folder);
    spoil(folder);
    const second = await router(model, folder);
    assert.equal(await cached(model, second), 0);
    assert.ok((await faults(second, fault)) > 0);
    assert.equal(await cached(model, second), 448);
    await second.stop();
  });
}

test('one damaged page of many costs what comes after it', async () => {
  const folder = join(rig.dir, 'one');
  await filled(ATTENTION, folder);
  const [one = ''] = files(folder, '.page');
  flip(one, 5);
  const second = await router(ATTENTION, folder);
  const hit = await cached(ATTENTION, second);
  assert.ok(hit < 448 && hit % 64 === 0);
  assert.equal(await faults(second, 'corrupt'), 1);
  await second.stop();
  const third = await router(ATTENTION, folder);
  assert.ok((await cached(ATTENTION, third)) >= hit);
  assert.equal(await faults(third, 'corrupt'), 0, 'the damaged file is gone');
  await third.stop();
});

/** A file system of its own, or null where this process may not mount one. */
function mounted(t: TestContext, name: string, size: number): string | null {
  const path = join(rig.dir, name);
  mkdirSync(path);
  const { status } = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'tmpfs', path]);
  t.after(() => {
    if (status === 0) spawnSync('umount', ['-l', path]);
    rmSync(path, { recursive: true, force: true });
  });
  if (status === 0) return path;
  t.skip('mounting a file system is not allowed here');
  return null;
}

test('a full disk: answers stay the same, and it is counted', async (t) => {
  const folder = mounted(t, 'full', 32 << 10);
  if (folder === null) return;
  const full = await router(HYBRID, folder);
  assert.equal(await cached(HYBRID, full), 0);
  await until('the disk to be full', async () => (await faults(full, 'disk_full')) > 0);
  assert.equal(await cached(HYBRID, full), 448, 'the pool still has it');
  await full.idle();
  await full.stop();
});

test('a read-only disk: what is there is used, and answers stay the same', async (t) => {
  const folder = mounted(t, 'read-only', 16 << 20);
  if (folder === null) return;
  await filled(HYBRID, folder);
  const second = await router(HYBRID, folder);
  assert.equal(spawnSync('mount', ['-o', 'remount,ro', folder]).status, 0);
  await second.client.generate({ promptIds: tokensOf(32, 300, 192) });
  assert.equal(await cached(HYBRID, second), 448);
  await second.stop();
  // It cannot be locked now: there is no disk tier, and that is all.
  const third = await router(HYBRID, folder);
  assert.equal(await cached(HYBRID, third), 0);
  assert.equal(await faults(third, 'disk_read_only'), 1);
  await third.stop();
});

test('a second router does not start on the same folder', async () => {
  const folder = join(rig.dir, 'shared');
  const first = await router(HYBRID, folder);
  await assert.rejects(router(HYBRID, folder), /--kv-disk .* is in use by process \d+/);
  await first.stop();
});
