import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { afterEach, beforeEach, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Cluster, loadConfig, type MemberLease, newIncarnation, systemClock } from '@guildhall/common';
import { eventually, RedisServer, silentLogger } from '@guildhall/common/testing';
import { type ControllerApp, startController } from './app.ts';
import { controllerSchema } from './config.ts';
import type { ControllerStatus } from './status.ts';
import { decodePlacement, type PlacementRecord } from './store/placement-store.ts';
import { EXPERTS, LAYERS, type TestWorker, workerValue } from './testing/members.ts';

const MAIN = fileURLToPath(new URL('./main.ts', import.meta.url));
let server: RedisServer;
let cluster: Cluster;
let closing: (() => unknown)[];

beforeEach(async () => {
  server = await RedisServer.start();
  cluster = new Cluster({ redis: server.url, cluster: 'control', clock: systemClock, logger: silentLogger() });
  closing = [() => server.stop(), () => cluster.close()];
  await cluster.start();
});

afterEach(async () => {
  for (const close of closing.reverse()) await close();
});

async function controller(id: string, fatal: unknown[] = [], ...argv: string[]): Promise<ControllerApp> {
  const config = loadConfig(controllerSchema, {
    argv: ['--redis', server.url, '--cluster', 'control', '--id', id, '--settle-ms', '300', ...argv],
    env: {},
  });
  const app = await startController(config, {
    logger: silentLogger(),
    clock: systemClock,
    onFatal: (err) => void fatal.push(err),
  });
  closing.push(() => app.stop());
  return app;
}

/** A worker's lease; it acknowledges every placement like a worker that loads at once. */
async function worker(spec: TestWorker): Promise<MemberLease> {
  const state = { ...spec };
  const lease = cluster.lease({
    kind: 'expert',
    id: spec.id,
    incarnation: newIncarnation(),
    value: () => workerValue(state),
    onLost: (err) => assert.fail(String(err)),
  });
  const off = cluster.placements.onChange((placement) => {
    state.acked = placement.epoch;
    lease.touch();
  });
  closing.push(off);
  await lease.join();
  return lease;
}

/** The placement that names exactly these workers. */
function placementOf(...ids: string[]): Promise<PlacementRecord> {
  return eventually(async () => {
    const stored = await cluster.placementStore.current().catch(() => null);
    if (stored === null) return null;
    const placement = decodePlacement(stored.bytes);
    return placement.assignment.workers.join() === ids.join() ? placement : null;
  }, `a placement of ${ids.join()}`);
}

async function status(): Promise<ControllerStatus | null> {
  const text = await cluster.redis.get(cluster.keys.status('controller')).catch(() => null);
  return text === null ? null : (JSON.parse(text) as ControllerStatus);
}

test('join, leave and a lease that ends each give one new epoch', async () => {
  await controller('controller-1', [], '--min-workers', '2');
  await worker({ id: 'e1' });
  const e2 = await worker({ id: 'e2' });
  assert.equal((await placementOf('e1', 'e2')).epoch, 1);
  await e2.leave();
  assert.equal((await placementOf('e1')).epoch, 2);
  // What a killed worker leaves behind: a lease that nobody renews.
  const dead = cluster.keys.member('expert', 'e3');
  await cluster.redis
    .multi()
    .hset(dead, 'incarnation', '5', 'value', workerValue({ id: 'e3' }))
    .pexpire(dead, 3000)
    .sadd(cluster.keys.members, 'expert/e3')
    .exec();
  assert.equal((await placementOf('e1', 'e3')).epoch, 3);
  assert.equal((await placementOf('e1')).epoch, 4);
  const said = await eventually(async () => {
    const now = await status();
    return now?.epoch === 4 && now.action === 'unchanged' ? now : null;
  }, 'the status');
  assert.deepEqual(
    said.workers.map((w) => w.id),
    ['e1'],
  );
});

test('a shortage is in the status', async () => {
  await controller('controller-1');
  await worker({ id: 'e1', slots: 3 });
  const said = await eventually(async () => ((await status())?.action === 'short' ? status() : null), 'the shortage');
  assert.match(said.reason, /need 24 places and the 1 workers have 3/);
  assert.equal(await cluster.placementStore.currentEpoch(), 0);
});

test('two workers that hold the same experts: both stay, each is given its share, coverage is whole', async () => {
  await controller('controller-1', [], '--min-workers', '2');
  const all = Array.from({ length: LAYERS }, (_, layer) => ({
    layer,
    experts: Array.from({ length: EXPERTS }, (__, expert) => expert),
  }));
  await worker({ id: 'e1', holdings: all });
  await worker({ id: 'e2', holdings: all });
  const placement = await placementOf('e1', 'e2');
  for (const layer of placement.assignment.holders) {
    assert.equal(layer.flat().filter((index) => index === 0).length, EXPERTS / 2);
  }
  await eventually(async () => (await status())?.coverage === 1, 'whole coverage');
});

test('of two controllers one leads; when it stops the other goes on with the next number', async () => {
  const first = await controller('controller-1');
  await eventually(() => first.leading, 'the first to lead');
  const second = await controller('controller-2');
  await eventually(() => second.last?.action === 'standby', 'the second to stand by');
  await worker({ id: 'e1' });
  assert.equal((await placementOf('e1')).epoch, 1);
  await first.stop();
  await eventually(() => second.leading, 'the second to lead');
  await worker({ id: 'e2' });
  assert.equal((await placementOf('e1', 'e2')).epoch, 2);
});

test('a second controller under the same id is refused', async () => {
  const first = await controller('controller-1');
  await eventually(() => first.leading, 'the first to lead');
  const fatal: unknown[] = [];
  await controller('controller-1', fatal);
  const err = await eventually(() => fatal[0], 'the refusal');
  assert.equal((err as { code: string }).code, 'id_in_use');
});

async function spawnController(id: string): Promise<ChildProcess> {
  const args = [
    MAIN,
    '--redis',
    server.url,
    '--cluster',
    'control',
    '--id',
    id,
    '--settle-ms',
    '300',
    '--log-level',
    'silent',
  ];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  closing.push(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGKILL');
    await once(child, 'exit');
  });
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  assert.match(line.toString(), /"event":"listening","address":null,"admin":"127\.0\.0\.1:\d+"/);
  return child;
}

test('a controller that is killed is replaced within its lease, and its successor knows the placement', async () => {
  const child = await spawnController('controller-1');
  await worker({ id: 'e1' });
  await placementOf('e1');
  const second = await controller('controller-2');
  child.kill('SIGKILL');
  await once(child, 'exit');
  await eventually(() => second.leading, 'the second to lead');
  await eventually(() => second.last?.action === 'unchanged', 'nothing to do');
  await worker({ id: 'e2' });
  assert.equal((await placementOf('e1', 'e2')).epoch, 2);
});

test('a controller ends cleanly on SIGTERM and gives the lead up at once', async () => {
  const child = await spawnController('controller-1');
  await eventually(async () => (await cluster.redis.exists(cluster.keys.leader)) === 1, 'a leader');
  child.kill('SIGTERM');
  assert.deepEqual(await once(child, 'exit'), [0, null]);
  assert.equal(await cluster.redis.exists(cluster.keys.leader), 0);
});

test('Redis comes back empty: nobody seems to have left, and the next epoch is above every acknowledged one', async () => {
  const app = await controller('controller-1', [], '--min-workers', '2');
  await worker({ id: 'e1' });
  const e2 = await worker({ id: 'e2' });
  await placementOf('e1', 'e2');
  await e2.leave();
  assert.equal((await placementOf('e1')).epoch, 2);
  await worker({ id: 'e3' });
  const before = await placementOf('e1', 'e3');
  await eventually(() => app.last?.observed?.live.ackedEpoch === 3, 'the acknowledgement');
  const epochs = new Set<number>();
  const off = cluster.placements.onChange((placement) => epochs.add(placement.epoch));
  closing.push(off);
  await server.kill();
  await eventually(() => app.last?.action === 'stale', 'the outage');
  await server.restart();
  const now = await placementOf('e1', 'e3');
  assert.equal(now.epoch, 4);
  assert.deepEqual(now.assignment, before.assignment);
  await eventually(() => app.last?.action === 'unchanged' && app.last.observed?.live.ackedEpoch === 4, 'calm');
  assert.deepEqual([...epochs], [4]);
});
