import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { isGuildhallError, systemClock } from '@guildhall/common';
import { chooseGatewayAddress } from './ports.ts';
import { endProcesses, isRunning, startTicks } from './processes.ts';
import { endLeftovers } from './stack.ts';
import { StateDir, type RunProcess } from './state-dir.ts';

const scratch = mkdtempSync(join(tmpdir(), 'guildhall-cli-'));
const children: ChildProcess[] = [];
after(() => {
  for (const child of children) child.kill('SIGKILL');
  rmSync(scratch, { recursive: true, force: true });
});

function sleeper(name: string, args: string[] = ['sleep', '300']): { child: ChildProcess; record: RunProcess } {
  const [program = '', ...rest] = args;
  const child = spawn(program, rest, { stdio: 'ignore' });
  children.push(child);
  const pid = child.pid ?? 0;
  return { child, record: { name, pid, startTicks: startTicks(pid) ?? '', startedAt: '' } };
}

test('a recorded process is known by its start time, not by its number alone', async () => {
  const { record } = sleeper('sleeper');
  assert.equal(isRunning(record), true);
  const stranger = { ...record, startTicks: '1' };
  assert.equal(isRunning(stranger), false);
  await endProcesses([stranger], 200, systemClock);
  assert.equal(isRunning(record), true, 'a process that merely has the number is left alone');
  await endProcesses([record], 2000, systemClock);
  assert.equal(isRunning(record), false);
});

test('a process that ignores SIGTERM is ended all the same', async () => {
  const { child, record } = sleeper('stubborn', ['sh', '-c', 'trap "" TERM; while :; do sleep 1; done']);
  await new Promise((resolve) => setTimeout(resolve, 100));
  await endProcesses([record], 300, systemClock);
  assert.equal(isRunning(record), false);
  if (child.signalCode === null && child.exitCode === null) await once(child, 'exit');
  assert.equal(child.signalCode, 'SIGKILL');
});

test('leftovers of a dead stack are ended; a live one is an error with its address', async () => {
  const state = new StateDir(join(scratch, 'leftovers'));
  state.ensure();
  const { record } = sleeper('expert-1');
  const run = { url: 'http://127.0.0.1:1', model: 'tiny', startedAt: '', processes: [record] };
  state.writeRun({
    ...run,
    up: { name: 'up', pid: process.pid, startTicks: startTicks(process.pid) ?? '', startedAt: '' },
  });
  await assert.rejects(
    endLeftovers(state, systemClock),
    (error) => isGuildhallError(error) && /127\.0\.0\.1:1/.test(error.message),
  );
  assert.equal(isRunning(record), true);
  state.writeRun({ ...run, up: { name: 'up', pid: process.pid, startTicks: 'another', startedAt: '' } });
  assert.deepEqual(await endLeftovers(state, systemClock), ['expert-1']);
  assert.equal(isRunning(record), false);
  assert.equal(state.readRun(), null);
});

test('secrets can be read by their owner only', () => {
  const state = new StateDir(join(scratch, 'secrets'));
  state.ensure();
  state.writeSecrets({ clusterToken: 'x', redisUrl: 'y', cluster: 'z' });
  assert.equal(statSync(join(state.path, 'secrets.json')).mode & 0o777, 0o600);
});

test('the gateway address: asked for and taken is an error, a bad one too', async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  await assert.rejects(chooseGatewayAddress(`127.0.0.1:${port}`), /is taken/);
  await assert.rejects(chooseGatewayAddress('8000'), /HOST:PORT/);
  server.close();
  await once(server, 'close');
  assert.equal(await chooseGatewayAddress(`127.0.0.1:${port}`), `127.0.0.1:${port}`);
});
