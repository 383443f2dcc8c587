import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { after, afterEach, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { CoordinationV1Api } from '@kubernetes/client-node';
import { PlacementStore } from '@guildhall/common';
import { eventually } from '@guildhall/common/testing';
import type { ControllerStatus } from '@guildhall/controller';
import { addNodes, Release, Wire } from './controller/rig.ts';
import { type ControlPlane, startControlPlane } from './index.ts';

const MAIN = fileURLToPath(new URL('../../services/controller/src/main.ts', import.meta.url));
const namespace = 'default';
const say = (line: string): void => void process.stdout.write(`  ${line}\n`);
let plane: ControlPlane;
let release: Release;
let token: string;

before(async () => {
  plane = await startControlPlane({ controllers: true, scheduler: true, kwok: true, say });
  await addNodes(plane, 1);
  release = await Release.install(plane, 'b', 1);
  const config = await plane.serviceAccountConfig(namespace, `${release.fullname}-controller`);
  token = config.getCurrentUser()?.token ?? '';
  const [pod = ''] = await release.readyPods('expert', 1);
  await release.worker(pod);
});
after(async () => {
  await release?.close();
  await plane?.stop();
});

let closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.reverse()) await close();
  closing = [];
});

/** A controller as a process of its own, which reaches the API server at `url`. */
function controller(id: string, url = plane.url): ChildProcess {
  const at = ['--redis', release.redis.url, '--cluster', release.clusterName, '--id', id, '--settle-ms', '100'];
  const on = ['--kubernetes', 'on', '--namespace', namespace, '--release', release.name, '--log-level', 'silent'];
  const lease = ['--lease-name', `${release.fullname}-controller`];
  const env = { ...process.env, KUBECONFIG: plane.writeKubeconfig(id, token, url) };
  const child = spawn(process.execPath, [MAIN, ...at, ...on, ...lease], {
    env,
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  closing.push(async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill('SIGCONT');
    // It gives the Lease up, so that the next test need not wait for its end.
    child.kill('SIGTERM');
    await once(child, 'exit');
  });
  return child;
}

/** Owner and fence of the lead in Redis. */
async function lead(): Promise<{ owner: string; fence: number }> {
  const [owner, fence] = await release.cluster.redis.hmget(release.cluster.keys.leader, 'owner', 'fence');
  return { owner: owner ?? '', fence: Number(fence ?? 0) };
}

function leads(id: string): Promise<{ owner: string; fence: number }> {
  return eventually(async () => {
    const now = await lead();
    return now.owner.startsWith(`${id}/`) ? now : null;
  }, `${id} to lead`);
}

async function holder(): Promise<string> {
  const leases = plane.kubeConfig().makeApiClient(CoordinationV1Api);
  const lease = await leases.readNamespacedLease({ namespace, name: `${release.fullname}-controller` });
  return lease.spec?.holderIdentity ?? '';
}

async function said(): Promise<ControllerStatus | null> {
  const text = await release.cluster.redis.get(release.cluster.keys.status('controller'));
  return text === null ? null : (JSON.parse(text) as ControllerStatus);
}

/** What a former leader's write comes to. */
async function late(fence: { owner: string; fence: number }): Promise<string> {
  const store = new PlacementStore(release.cluster.redis, release.cluster.keys);
  const epoch = await store.currentEpoch();
  return store.publish(epoch, epoch + 1, Buffer.from('late'), fence);
}

test('one that ends hands the Lease over at once', async () => {
  const first = controller('first');
  const { fence } = await leads('first');
  controller('second');
  first.kill('SIGTERM');
  assert.deepEqual(await once(first, 'exit'), [0, null]);
  const next = await leads('second');
  assert.ok(next.fence > fence);
  assert.equal(await holder(), next.owner);
});

test('one that is killed is followed, and what it sent late is refused', async () => {
  const first = controller('killed');
  const before = await leads('killed');
  controller('heir');
  first.kill('SIGKILL');
  const next = await leads('heir');
  assert.ok(next.fence > before.fence);
  assert.equal(await late(before), 'not_leader');
});

test('one that was stopped and wakes up writes nothing', async () => {
  const sleeper = controller('sleeper');
  const before = await leads('sleeper');
  sleeper.kill('SIGSTOP');
  controller('awake');
  const next = await leads('awake');
  const epoch = await release.cluster.placementStore.currentEpoch();
  sleeper.kill('SIGCONT');
  // It has looked at the cluster again once it says that it does not lead.
  await eventually(async () => {
    await release.cluster.members.refresh();
    return release.cluster.members.members().some(({ id }) => id === 'sleeper');
  }, 'the sleeper to be back');
  assert.equal(await late(before), 'not_leader');
  assert.deepEqual(await lead(), next);
  assert.equal(await release.cluster.placementStore.currentEpoch(), epoch);
  assert.equal(await holder(), next.owner);
});

test('one that is cut off from the API server gives way to one that is not, and stands by when it is back', async () => {
  const wire = await Wire.start(plane.url);
  closing.push(() => wire.close());
  controller('islander', wire.url);
  const before = await leads('islander');
  wire.cut();
  // Nobody else is there: it leads on, by the lock in Redis.
  await eventually(async () => (await said())?.kubernetes?.lease.mode === 'lock', 'the lock to decide');
  assert.deepEqual(await lead(), before);
  controller('mainlander');
  const next = await leads('mainlander');
  assert.ok(next.fence > before.fence);
  assert.equal(await late(before), 'not_leader');
  wire.mend();
  await eventually(async () => (await holder()) === next.owner, 'the Lease');
  assert.deepEqual(await lead(), next);
});
