import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { createMetrics, startAdminServer } from '@guildhall/common';
import { eventually, freePort } from '@guildhall/common/testing';

const HOOK = fileURLToPath(new URL('./drain-hook.ts', import.meta.url));

interface Hook {
  exitCode: () => number | null;
  ended: Promise<unknown>;
  stderr: () => string;
}

function runHook(args: string[], env: Record<string, string> = {}): Hook {
  const child = spawn(process.execPath, [HOOK, ...args], {
    env: { ...process.env, NODE_NO_WARNINGS: '1', ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let stderr = '';
  child.stderr.on('data', (text: Buffer) => (stderr += text.toString()));
  return { exitCode: () => child.exitCode, ended: once(child, 'close'), stderr: () => stderr };
}

test('the hook asks for the drain and ends with it, not before', async () => {
  const drained = Promise.withResolvers<void>();
  let asked = 0;
  const admin = await startAdminServer('127.0.0.1:0', createMetrics('router'), {
    started: () => true,
    readiness: () => ({ ready: true, reason: null }),
    drain: () => {
      asked += 1;
      return drained.promise;
    },
  });
  try {
    const port = admin.address.split(':')[1] ?? '';
    const byEnvironment = runHook([], { GUILDHALL_ADMIN_LISTEN: `0.0.0.0:${port}` });
    const byArgument = runHook([`[::]:${port}`], { GUILDHALL_ADMIN_LISTEN: '0.0.0.0:1' });
    await eventually(() => asked === 2, 'both to ask');
    assert.deepEqual([byEnvironment.exitCode(), byArgument.exitCode()], [null, null]);
    drained.resolve();
    await Promise.all([byEnvironment.ended, byArgument.ended]);
    assert.deepEqual([byEnvironment.exitCode(), byArgument.exitCode()], [0, 0]);
  } finally {
    await admin.close();
  }
});

test('a hook that reaches nothing, or is refused, says so and fails', async () => {
  const nobody = runHook([`127.0.0.1:${await freePort()}`]);
  await nobody.ended;
  assert.equal(nobody.exitCode(), 1);
  assert.match(
    nobody.stderr(),
    /^guildhall-drain: no answer from the admin server at 127\.0\.0\.1:\d+: .*ECONNREFUSED/,
  );
  const admin = await startAdminServer('127.0.0.1:0', createMetrics('router'), {
    started: () => true,
    readiness: () => ({ ready: true, reason: null }),
    drain: () => Promise.reject(new RangeError('broken')),
  });
  try {
    const refused = runHook([admin.address]);
    await refused.ended;
    assert.equal(refused.exitCode(), 1);
    assert.match(refused.stderr(), /answered 500/);
  } finally {
    await admin.close();
  }
});
