import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { systemClock } from './clock.ts';
import { lockFile, tryLockFile, type FileLock } from './file-lock.ts';

const dir = mkdtempSync(join(tmpdir(), 'guildhall-lock-'));
after(() => rmSync(dir, { recursive: true, force: true }));

function taken(path: string): FileLock {
  const lock = tryLockFile(path, systemClock);
  assert.ok('release' in lock);
  return lock;
}

test('one holder at a time; released it is gone, and releasing twice harms nobody', () => {
  const path = join(dir, 'one');
  const first = taken(path);
  const other = tryLockFile(path, systemClock);
  assert.ok('pid' in other && other.pid === process.pid);
  first.release();
  assert.ok(!existsSync(path));
  const second = taken(path);
  first.release();
  assert.ok(existsSync(path), 'the lock of the second holder stays');
  second.release();
  assert.deepEqual(readdirSync(dir), []);
});

test('the lock of a process that died is taken over, that of a living one is waited for', async () => {
  const path = join(dir, 'dead');
  const script = `import('${import.meta.dirname}/file-lock.ts').then(async ({ tryLockFile }) => {
    const { systemClock } = await import('${import.meta.dirname}/clock.ts');
    tryLockFile(process.argv[1], systemClock); console.log('locked'); setInterval(() => {}, 1000); });`;
  const child = spawn(process.execPath, ['-e', script, path], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  let waited: number | null = null;
  const wanted = lockFile(path, { clock: systemClock, onWait: (holder) => (waited = holder.pid) });
  assert.equal(waited, child.pid);
  child.kill('SIGKILL');
  await once(child, 'exit');
  (await wanted).release();
  assert.ok(!existsSync(path));
});

test('a holder elsewhere counts as long as the file is touched; nonsense counts as nobody', () => {
  const path = join(dir, 'elsewhere');
  const holder = { pid: 1, startTicks: '1', host: 'another machine' };
  writeFileSync(path, JSON.stringify(holder));
  assert.deepEqual(tryLockFile(path, systemClock), holder);
  const longAgo = systemClock.nowMs() / 1000 - 120;
  utimesSync(path, longAgo, longAgo);
  taken(path).release();
  writeFileSync(path, 'nonsense');
  taken(path).release();
});

test('waiting ends when it is not wanted any more', async () => {
  const path = join(dir, 'waiting');
  const lock = taken(path);
  const stop = new AbortController();
  const wanted = lockFile(path, { clock: systemClock, signal: stop.signal });
  stop.abort();
  await assert.rejects(wanted, /cancelled/);
  lock.release();
});
