import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Cluster, fail, type MemberLease, systemClock } from '@guildhall/common';
import { eventually, RedisServer, silentLogger } from '@guildhall/common/testing';
import { control } from '@guildhall/proto';
import { FakeRouter } from '../../../../test/fakes/fake-router.ts';
import { ROOT, StateDir } from '../stack/state-dir.ts';

const TOKEN = 'a-cluster-token';
const state = new StateDir(mkdtempSync(join(tmpdir(), 'guildhall-drain-')));
let redis: RedisServer;
let cluster: Cluster;
const routers: FakeRouter[] = [];
const leases = new Map<FakeRouter, MemberLease>();

before(async () => {
  redis = await RedisServer.start();
  cluster = new Cluster({ redis: redis.url, cluster: 'test', clock: systemClock, logger: silentLogger() });
  await cluster.members.start();
  const tier = { name: 'device', capacityBytes: 4096n << 10n, usedBytes: 1024n << 10n, pages: 16n, states: 2n };
  for (const id of ['router-1', 'router-2']) {
    const options = { id, clusterToken: TOKEN, pageTokens: 64, tiers: [tier], script: () => ({ tokens: [1, 2] }) };
    const router = await FakeRouter.start(options);
    routers.push(router);
    const value = (): Uint8Array => control.Member.encode(router.member()).finish();
    const lease = cluster.lease({
      kind: 'router',
      id,
      incarnation: router.incarnation,
      value,
      onLost: () => undefined,
    });
    leases.set(router, lease);
    await lease.join();
  }
  const expert = control.Member.create({ kind: control.MemberKind.MEMBER_KIND_EXPERT, id: 'expert-1', ready: true });
  const value = (): Uint8Array => control.Member.encode(expert).finish();
  await cluster.lease({ kind: 'expert', id: 'expert-1', incarnation: 1n, value, onLost: () => undefined }).join();
  const gateway = control.Member.create({ kind: control.MemberKind.MEMBER_KIND_GATEWAY, id: 'gateway-1' });
  const entry = (): Uint8Array => control.Member.encode(gateway).finish();
  await cluster
    .lease({ kind: 'gateway', id: 'gateway-1', incarnation: 1n, value: entry, onLost: () => undefined })
    .join();
  state.ensure();
  state.writeSecrets({ clusterToken: TOKEN, redisUrl: redis.url, cluster: 'test' });
});
after(async () => {
  await cluster.close();
  for (const router of routers) await router.stop();
  await redis.stop();
  rmSync(state.path, { recursive: true });
});

interface Run {
  code: number | null;
  stdout: string;
  stderr: string;
}

/** Runs the command as a user would. */
function guildhall(args: string[], env: NodeJS.ProcessEnv = {}): Promise<Run> {
  const main = join(ROOT, 'services', 'cli', 'src', 'main.ts');
  const child = spawn(process.execPath, [main, ...args], { env: { ...process.env, NODE_NO_WARNINGS: '1', ...env } });
  const run: Run = { code: null, stdout: '', stderr: '' };
  child.stdout.on('data', (data: Buffer) => (run.stdout += data.toString()));
  child.stderr.on('data', (data: Buffer) => (run.stderr += data.toString()));
  return new Promise((resolve) => child.once('close', (code) => resolve({ ...run, code })));
}

const here = ['--state-dir', state.path];

/** Sets what a router reports and waits until that can be read. */
async function report(router: FakeRouter, draining: boolean): Promise<void> {
  router.draining = draining;
  leases.get(router)?.touch();
  await eventually(
    () =>
      cluster.members
        .members()
        .some((entry) => entry.id === router.id && control.Member.decode(entry.value).draining === draining),
    `${router.id} is known as it is`,
  );
}

const [first, second] = [0, 1].map((i) => (): FakeRouter => routers[i] as FakeRouter) as [
  () => FakeRouter,
  () => FakeRouter,
];

test('an unknown id, or a member that cannot be drained, is refused with the list of those that can', async () => {
  const unknown = await guildhall(['drain', 'router-9', ...here]);
  assert.equal(unknown.code, 1);
  assert.match(
    unknown.stderr,
    /there is no router-9; there are: expert-1 \(ready\), router-1 \(ready\), router-2 \(ready\)/,
  );
  const gateway = await guildhall(['drain', 'gateway-1', ...here, '--json']);
  const { error } = JSON.parse(gateway.stderr) as { error: { code: string; message: string } };
  assert.equal(error.code, 'not_found');
  assert.match(error.message, /gateway-1 is neither a router nor a worker/);
});

test('a drain shows its progress and says when the router is empty', async () => {
  const shown = await guildhall(['drain', 'router-1', '--timeout', '7', ...here]);
  assert.equal(shown.code, 0, shown.stderr);
  assert.match(shown.stderr, /router-1 is empty after \d+\.\d s: 0 streams moved/);
  assert.match(shown.stdout, /takes nothing new until it is started again/);
  assert.deepEqual(
    first().drains.map((drain) => drain.limitMs),
    [7000],
  );
  assert.equal(second().drains.length, 0);
  await report(first(), false);
});

test('the cluster may be named by its Redis, with the token in the environment', async () => {
  const args = ['drain', 'router-1', '--redis', redis.url, '--cluster', 'test', '--json'];
  const refused = await guildhall(args);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /"code":"unauthorized"/);
  const { code, stdout } = await guildhall(args, { GUILDHALL_CLUSTER_TOKEN: TOKEN });
  assert.equal(code, 0);
  const result = JSON.parse(stdout) as { router: string; moved: number; running: number; seconds: number };
  assert.deepEqual(
    { ...result, seconds: 0 },
    { router: 'router-1', moved: 0, running: 0, waiting: 0, parked: 0, seconds: 0 },
  );
  await report(first(), false);
});

test('the last router that could go on is drained only by force', async () => {
  await report(second(), true);
  const drains = first().drains.length;
  const refused = await guildhall(['drain', 'router-1', ...here]);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /no other router could go on with the streams of router-1.*--force/);
  assert.equal(first().drains.length, drains);
  const forced = await guildhall(['drain', 'router-1', '--force', ...here]);
  assert.equal(forced.code, 0, forced.stderr);
  assert.equal(first().drains.length, drains + 1);
  await report(first(), false);
  await report(second(), false);
});

test('a router of another numerics class is no successor', async () => {
  const options = { id: 'router-3', clusterToken: TOKEN, numericsId: 'other', script: () => ({ tokens: [1] }) };
  const other = await FakeRouter.start(options);
  routers.push(other);
  const value = (): Uint8Array => control.Member.encode(other.member()).finish();
  const { id, incarnation } = other;
  const lease = cluster.lease({ kind: 'router', id, incarnation, value, onLost: () => undefined });
  await lease.join();
  const refused = await guildhall(['drain', 'router-3', ...here, '--json']);
  assert.match(refused.stderr, /"code":"no_router"/);
  await lease.leave();
});

test('what the router answers is what is said, and a bad timeout is refused before', async () => {
  second().drainFailure = fail('unsupported', 'this router cannot drain');
  const refused = await guildhall(['drain', 'router-2', ...here, '--json']);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /"code":"unsupported","message":"this router cannot drain"/);
  second().drainFailure = null;
  const { code, stderr } = await guildhall(['drain', 'router-2', ...here, '--timeout', 'soon']);
  assert.equal(code, 1);
  assert.match(stderr, /is not a positive whole number/);
  assert.equal(second().drains.length, 1);
});

test('streams are counted as they move, and what is left at the end is an error', async () => {
  const steps = [{ running: 2, waiting: 1 }, { running: 1, parked: 1, moved: 1 }, { moved: 3 }];
  second().drainScript = steps;
  const moved = await guildhall(['drain', 'router-2', ...here, '--json']);
  assert.equal((JSON.parse(moved.stdout) as { moved: number }).moved, 3);
  second().drainScript = steps.slice(0, 2);
  const left = await guildhall(['drain', 'router-2', ...here, '--json']);
  assert.deepEqual([left.code, left.stdout], [1, '']);
  assert.match(left.stderr, /"code":"deadline_exceeded".*1 running, 0 waiting, 1 parked, 1 moved/);
  second().drainScript = [];
  assert.match((await guildhall(['drain', 'router-2', ...here])).stderr, /ended the drain without a word/);
});

test('status shows the tiers of each router, and why one says nothing', async () => {
  const { stdout } = await guildhall(['status', ...here]);
  assert.match(stdout, /router-1 +device +1\.0 MiB +4\.0 MiB +16 +2 +64/);
  assert.match(stdout, /router-2 +device/);
  const args = ['status', '--redis', redis.url, '--cluster', 'test', '--json'];
  const blind = JSON.parse((await guildhall(args)).stdout) as { members: { id: string; cacheError?: string }[] };
  assert.match(blind.members.find((member) => member.id === 'router-1')?.cacheError ?? '', /token/);
  const seen = JSON.parse((await guildhall(args, { GUILDHALL_CLUSTER_TOKEN: TOKEN })).stdout) as {
    members: { id: string; cache?: object }[];
  };
  assert.deepEqual(seen.members.find((member) => member.id === 'router-1')?.cache, {
    pageTokens: 64,
    pageBytes: 65_536,
    stateBytes: 0,
    pagesTotal: 0,
    pagesFree: 0,
    tiers: [{ name: 'device', capacityBytes: 4 << 20, usedBytes: 1 << 20, pages: 16, states: 2 }],
  });
});

test('with Redis away nothing is drained', async () => {
  const drains = first().drains.length;
  await redis.kill();
  const refused = await guildhall(['drain', 'router-1', ...here, '--json']);
  assert.equal(refused.code, 1);
  assert.match(refused.stderr, /"code":"redis_unavailable"/);
  assert.equal(first().drains.length, drains);
});
