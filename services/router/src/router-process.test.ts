import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { eventually, freePort } from '@guildhall/common/testing';
import { describeConfig } from '@guildhall/common';
import { loadRouterConfig, routerSchema } from './index.ts';

const MAIN = fileURLToPath(new URL('main.ts', import.meta.url));
const MODEL = fileURLToPath(new URL('../../../models/tiny', import.meta.url));
let scratch: string;

before(() => {
  scratch = mkdtempSync(join(tmpdir(), 'guildhall-router-'));
});

after(() => rmSync(scratch, { recursive: true, force: true }));

function start(args: readonly string[]) {
  const child = spawn(process.execPath, [MAIN, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, NODE_NO_WARNINGS: '1' },
  });
  const lines: string[] = [];
  const closed = Promise.all(
    [child.stdout, child.stderr].map((stream) =>
      once(
        createInterface({ input: stream }).on('line', (line) => lines.push(line)),
        'close',
      ),
    ),
  );
  return { child, lines, exit: async () => [(await once(child, 'exit'))[0], await closed][0] as number };
}

/** Runs it to its end and returns its exit code and the fatal line. */
async function failure(
  args: readonly string[],
): Promise<{ exitCode: number; code: string; field: string | null; message: string }> {
  const { lines, exit } = start(args);
  const exitCode = await exit();
  const fatal = lines.find((line) => line.startsWith('{"event":"fatal"')) ?? '{}';
  return { exitCode, ...(JSON.parse(fatal) as { code: string; field: string | null; message: string }) };
}

test('a wrong option is refused, and named', () => {
  const cases: [string[], string][] = [
    [[], 'model'],
    [['--model', MODEL, '--no-such-flag', '1'], 'no-such-flag'],
    [['--model', MODEL, '--chunk-tokens', '100'], 'chunkTokens'],
    [['--model', MODEL, '--kv-memory', 'lots'], 'kvMemory'],
    [['--model', MODEL, '--max-running', '0'], 'maxRunning'],
  ];
  for (const [args, field] of cases) assert.throws(() => loadRouterConfig(args, {}), { code: 'config_invalid', field });
  assert.equal(loadRouterConfig(['--model', MODEL, '--kv-memory', '2GiB'], {}).kvMemory, 2 ** 31);
  assert.equal(loadRouterConfig(['--model', MODEL], {}).kvMemory, 2 ** 28);
  assert.deepEqual(
    loadRouterConfig(['--model', MODEL, '--served-model-name', 'a,b', '--served-model-name', 'c'], {}).servedModelName,
    ['a', 'b', 'c'],
  );
});

test('what cannot work ends the process with the reason', async () => {
  const cases: [string[], string, string | null][] = [
    [['--model', MODEL, '--max-context', '9999999'], 'config_invalid', 'maxContext'],
    [['--model', join(scratch, 'nothing')], 'checkpoint_not_found', null],
    [['--model', MODEL, '--listen', '0.0.0.0:0'], 'insecure_listen', 'listen'],
  ];
  for (const [args, code, field] of cases) {
    const found = await failure(args);
    assert.equal(found.exitCode, 1, args.join(' '));
    assert.equal(found.code, code, `${args.join(' ')}: ${found.message}`);
    if (field !== null) assert.equal(found.field, field, found.message);
  }
});

test('without Redis it listens, says why it is not ready, and ends when asked to', async () => {
  const redis = `redis://127.0.0.1:${await freePort()}`;
  const { child, lines, exit } = start(['--model', MODEL, '--redis', redis, '--threads', '1', '--kv-memory', '8MiB']);
  const listening = (): string | undefined => lines.find((line) => line.startsWith('{"event":"listening"'));
  try {
    await eventually(() => listening() !== undefined || child.exitCode !== null, 'the router to listen');
    const { admin } = JSON.parse(listening() ?? '{}') as { admin: string };
    assert.equal((await fetch(`http://${admin}/health`)).status, 200);
    const ready = await fetch(`http://${admin}/ready`);
    assert.equal(ready.status, 503);
    assert.match(((await ready.json()) as { reason: string }).reason, /Redis/);
    const metrics = await (await fetch(`http://${admin}/metrics`)).text();
    assert.match(metrics, /vllm:num_requests_running\{model_name="tiny"\} 0/);
    child.kill('SIGTERM');
    assert.equal(await exit(), 0);
  } finally {
    child.kill('SIGKILL');
  }
});

test('every option is described', () => {
  for (const row of describeConfig(routerSchema)) assert.ok(row.description.length > 10, row.name);
});
