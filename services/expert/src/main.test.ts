import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdtempSync, readdirSync, rmSync, statSync, truncateSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Cluster, systemClock } from '@guildhall/common';
import { eventually, RedisServer, silentLogger } from '@guildhall/common/testing';
import { control } from '@guildhall/proto';
import { MODEL } from './testing/worker-bench.ts';

const MAIN = fileURLToPath(new URL('./main.ts', import.meta.url));
const dir = mkdtempSync(join(tmpdir(), 'guildhall-expert-'));
after(() => rmSync(dir, { recursive: true }));

interface Ended {
  code: number | null;
  fatal: { code: string; field: string | null; message: string };
}

/** Runs a worker that is expected to end by itself, and returns why it did. */
async function refused(...argv: string[]): Promise<Ended> {
  const child = spawn(process.execPath, [MAIN, '--log-level', 'silent', ...argv], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let err = '';
  child.stderr.on('data', (text: Buffer) => (err += text.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  const line = err.split('\n').find((text) => text.includes('"event":"fatal"'));
  assert.ok(line !== undefined, `no reason on stderr: ${err}`);
  return { code, fatal: JSON.parse(line) as Ended['fatal'] };
}

test('a worker joins, and leaves at once on SIGTERM with exit code 0', async () => {
  const redis = await RedisServer.start();
  const cluster = new Cluster({ redis: redis.url, cluster: 'default', clock: systemClock, logger: silentLogger() });
  await cluster.start();
  const argv = [
    '--redis',
    redis.url,
    '--model',
    MODEL,
    '--weights',
    'f32',
    '--threads',
    '1',
    '--id',
    'e1',
    '--log-level',
    'silent',
  ];
  const child = spawn(process.execPath, [MAIN, ...argv], { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    const [line] = (await once(child.stdout, 'data')) as [Buffer];
    const { event, address, admin, id } = JSON.parse(line.toString()) as Record<string, string>;
    assert.deepEqual([event, id], ['listening', 'e1']);
    assert.match(`${address} ${admin}`, /^127\.0\.0\.1:\d+ 127\.0\.0\.1:\d+$/);
    await eventually(() => cluster.members.members().length === 1, 'the worker to join');
    child.kill('SIGTERM');
    assert.deepEqual(await once(child, 'exit'), [0, null]);
    assert.equal(await cluster.redis.exists(cluster.keys.member('expert', 'e1')), 0);
  } finally {
    child.kill('SIGKILL');
    await cluster.close();
    await redis.stop();
  }
});

test('a worker in a pod announces what others reach, tells its node and group, and drains before it is told to end', async () => {
  const redis = await RedisServer.start();
  const cluster = new Cluster({ redis: redis.url, cluster: 'default', clock: systemClock, logger: silentLogger() });
  await cluster.start();
  const env = {
    GUILDHALL_REDIS: redis.url,
    GUILDHALL_ID: 'e1',
    GUILDHALL_NODE: 'node-7',
    GUILDHALL_GROUP: 'b200',
    GUILDHALL_LISTEN: '0.0.0.0:0',
    GUILDHALL_ADVERTISE: '127.0.0.9:0',
    GUILDHALL_ADMIN_LISTEN: '0.0.0.0:0',
    GUILDHALL_CLUSTER_TOKEN: 'cluster-secret',
  };
  const argv = ['--model', MODEL, '--weights', 'f32', '--threads', '1', '--log-level', 'silent'];
  const child = spawn(process.execPath, [MAIN, ...argv], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...env },
  });
  try {
    const [line] = (await once(child.stdout, 'data')) as [Buffer];
    const { address, admin } = JSON.parse(line.toString()) as Record<string, string>;
    const port = (hostPort = ''): string => hostPort.split(':')[1] ?? '';
    const entry = await eventually(() => cluster.members.members()[0], 'the worker to join');
    const member = control.Member.decode(entry.value);
    assert.deepEqual(
      [member.node, member.group, member.address, member.adminAddress],
      ['node-7', 'b200', `127.0.0.9:${port(address)}`, `127.0.0.9:${port(admin)}`],
    );
    const own = `http://127.0.0.1:${port(admin)}`;
    assert.equal((await fetch(`${own}/started`)).status, 200);
    assert.equal((await fetch(`${own}/drain`, { method: 'POST' })).status, 200);
    assert.match(await (await fetch(`${own}/ready`)).text(), /shutting down/);
    await cluster.members.refresh();
    assert.equal(control.Member.decode(cluster.members.members()[0]?.value ?? Buffer.alloc(0)).draining, true);
    child.kill('SIGTERM');
    assert.deepEqual(await once(child, 'exit'), [0, null]);
  } finally {
    child.kill('SIGKILL');
    await cluster.close();
    await redis.stop();
  }
});

test('a checkpoint that is missing or cut in half ends the start with the file and what was expected', async () => {
  const missing = await refused('--model', join(dir, 'nowhere'));
  assert.deepEqual([missing.code, missing.fatal.code], [1, 'checkpoint_not_found']);
  const cut = join(dir, 'cut');
  cpSync(MODEL, cut, { recursive: true });
  const file = readdirSync(cut).find((name) => name.endsWith('.safetensors')) ?? '';
  truncateSync(join(cut, file), Math.floor(statSync(join(cut, file)).size / 2));
  const halved = await refused('--model', cut);
  assert.deepEqual([halved.code, halved.fatal.code], [1, 'checkpoint_invalid']);
  assert.ok(halved.fatal.message.includes(file), halved.fatal.message);
});

test('wrong options end the start with their names', async () => {
  assert.deepEqual((await refused()).fatal.field, 'model');
  assert.deepEqual(
    (await refused('--model', MODEL, '--thread', '1')).fatal.message,
    'unknown option --thread, did you mean --threads?',
  );
  const open = await refused('--model', MODEL, '--listen', '0.0.0.0:0');
  assert.deepEqual([open.code, open.fatal.code, open.fatal.field], [1, 'insecure_listen', 'listen']);
});
