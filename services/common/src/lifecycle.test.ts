import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { newIncarnation } from './lifecycle.ts';
import { eventually } from './testing/eventually.ts';

const SAMPLE = fileURLToPath(new URL('./testing/sample-service.ts', import.meta.url));

interface Run {
  child: ChildProcess;
  out: () => string;
  err: () => string;
  fd3: () => string;
  exit: Promise<[number | null, string | null]>;
}

function start(...args: string[]): Run {
  const child = spawn(process.execPath, [SAMPLE, ...args], { stdio: ['pipe', 'pipe', 'pipe', 'pipe'] });
  const texts = ['', '', '', ''];
  for (const fd of [1, 2, 3] as const) child.stdio[fd]?.on('data', (data: Buffer) => (texts[fd] += data.toString()));
  const exit = once(child, 'close') as Promise<[number | null, string | null]>;
  return { child, exit, out: () => texts[1] ?? '', err: () => texts[2] ?? '', fd3: () => texts[3] ?? '' };
}

const listening = (run: Run): Promise<string> =>
  eventually(() => run.out().includes('listening') && run.out(), 'listening line');

test('the listening line, then a signal: hooks run last first and the exit is clean', async () => {
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    const run = start('run', '--ready-fd', '3');
    const line = JSON.parse(await listening(run)) as Record<string, unknown>;
    assert.deepEqual(line, {
      event: 'listening',
      address: '127.0.0.1:1',
      admin: null,
      pid: run.child.pid,
      aborted: false,
    });
    await eventually(() => run.fd3().includes('listening'), 'line on descriptor 3');
    run.child.kill(signal);
    assert.deepEqual(await run.exit, [0, null]);
    assert.match(run.out(), /last hook added, first run\nfirst hook added, last run\n$/);
  }
});

test('a hook that asks for more time than others have gets it', async () => {
  const run = start('slow');
  await listening(run);
  run.child.kill('SIGTERM');
  assert.deepEqual(await run.exit, [0, null]);
  assert.match(run.out(), /last hook added, first run/);
});

test('a second signal ends a hanging shutdown at once', async () => {
  const run = start('hang');
  await listening(run);
  run.child.kill('SIGINT');
  await eventually(() => run.err().includes('shutting down'), 'shutdown to begin');
  run.child.kill('SIGINT');
  assert.deepEqual(await run.exit, [130, null]);
});

test('with --parent-pipe the end of stdin is the end of the process', async () => {
  const run = start('run', '--parent-pipe');
  await listening(run);
  run.child.stdin?.end();
  assert.deepEqual(await run.exit, [0, null]);
  assert.match(run.out(), /last run\n$/);
});

test('without --parent-pipe stdin does not matter', async () => {
  const run = start('run');
  await listening(run);
  run.child.stdin?.end();
  run.child.kill('SIGTERM');
  assert.deepEqual(await run.exit, [0, null]);
  assert.doesNotMatch(run.err(), /parent/);
});

test('a failed start, a fatal error and a stray rejection end with 1 and one line of JSON that says why', async () => {
  for (const [mode, code, field, message] of [
    ['config-error', 'config_invalid', 'model', '--model is required'],
    ['fatal', 'id_in_use', 'id', 'taken'],
    ['reject', 'internal', null, 'nobody waits'],
  ] as const) {
    const run = start(mode, '--log-level', 'silent');
    assert.deepEqual(await run.exit, [1, null], mode);
    const lines = run.err().trim().split('\n');
    assert.deepEqual(JSON.parse(lines[0] ?? ''), { event: 'fatal', code, field, message });
    assert.match(run.out(), /last run\n$/, 'hooks run');
  }
});

test('a failing hook does not keep the others from running', async () => {
  const run = start('bad-hook');
  await listening(run);
  run.child.kill('SIGTERM');
  assert.deepEqual(await run.exit, [0, null]);
  assert.match(run.out(), /first hook added, last run\n$/);
});

test('incarnations are positive, below 2^63 and differ', () => {
  const seen = new Set(Array.from({ length: 100 }, newIncarnation));
  assert.equal(seen.size, 100);
  for (const value of seen) assert.ok(value > 0n && value < 1n << 63n);
});
