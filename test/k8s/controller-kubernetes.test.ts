import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { AutoscalingV2Api, CoordinationV1Api, CoreV1Api } from '@kubernetes/client-node';
import { loadConfig, systemClock } from '@guildhall/common';
import { eventually, silentLogger } from '@guildhall/common/testing';
import {
  type ControllerApp,
  controllerSchema,
  type ControllerStatus,
  startController,
  type Workload,
} from '@guildhall/controller';
import { addNodes, Release } from './controller/rig.ts';
import { type ControlPlane, startControlPlane } from './index.ts';

const namespace = 'default';
let plane: ControlPlane;
let release: Release;
let app: ControllerApp;
let kubeconfig: string | undefined;
const say = (line: string): void => void process.stdout.write(`  ${line}\n`);

before(async () => {
  plane = await startControlPlane({ controllers: true, scheduler: true, kwok: true, say });
  await addNodes(plane, 3);
  release = await Release.install(plane, 'a', 3);
  const pods = await release.readyPods('expert', 3);
  await release.readyPods('router', 2);
  app = await controller('controller-1');
  for (const pod of pods) await release.worker(pod);
  await eventually(() => release.placed() === pods.join(), 'the placement');
});

after(async () => {
  await app?.stop();
  await release?.close();
  await plane?.stop();
});

const undo: (() => unknown)[] = [];
afterEach(async () => {
  for (const step of undo.splice(0)) await step();
});

/** A controller with the rights of the chart's service account and no others. */
async function controller(id: string): Promise<ControllerApp> {
  const config = await plane.serviceAccountConfig(namespace, `${release.fullname}-controller`);
  const token = config.getCurrentUser()?.token ?? '';
  kubeconfig ??= process.env['KUBECONFIG'];
  process.env['KUBECONFIG'] = plane.writeKubeconfig(id, token);
  const at = ['--redis', release.redis.url, '--cluster', release.clusterName, '--id', id, '--settle-ms', '300'];
  const on = ['--kubernetes', 'on', '--namespace', namespace, '--release', release.name];
  const lease = ['--lease-name', `${release.fullname}-controller`];
  return startController(loadConfig(controllerSchema, { argv: [...at, ...on, ...lease], env: {} }), {
    logger: silentLogger(),
    clock: systemClock,
    onFatal: (err) => assert.fail(String(err)),
  });
}

async function status(): Promise<ControllerStatus | null> {
  const text = await release.cluster.redis.get(release.cluster.keys.status('controller'));
  return text === null ? null : (JSON.parse(text) as ControllerStatus);
}

function workload(deployment: string): Workload | undefined {
  return app.kubernetes?.workloads.current?.find((one) => one.deployment === deployment);
}

async function eventReasons(): Promise<string[]> {
  const { items } = await plane.kubeConfig().makeApiClient(CoreV1Api).listNamespacedEvent({ namespace });
  return items.filter(({ source }) => source?.component === 'guildhall-controller').map(({ reason }) => reason ?? '');
}

test('with the chart’s Role it leads by the Lease, sees everything that it watches, and says so', async () => {
  const lease = await plane
    .kubeConfig()
    .makeApiClient(CoordinationV1Api)
    .readNamespacedLease({ namespace, name: `${release.fullname}-controller` });
  assert.match(lease.spec?.holderIdentity ?? '', /^controller-1\/\d+$/);
  assert.deepEqual(
    lease.metadata?.ownerReferences?.map(({ kind, name }) => `${kind}/${name}`),
    [`Deployment/${release.fullname}-controller`],
  );
  const said = await eventually(async () => {
    const now = await status();
    return now?.kubernetes?.workloads.every(({ pods }) => pods.every(({ phase }) => phase === 'ready')) ? now : null;
  }, 'the status');
  assert.deepEqual(
    said.kubernetes?.workloads.map(({ deployment, kind, name, pods }) => [deployment, kind, name, pods.length]),
    [
      [release.experts, 'experts', 'all', 3],
      [release.routers, 'routers', 'router', 2],
    ],
  );
  assert.ok(
    said.kubernetes?.workloads.every(({ pods }) => pods.every(({ node }) => node?.startsWith('node-') === true)),
  );
  assert.deepEqual(
    said.kubernetes?.watches.map(({ stale, problem }) => [stale, problem]),
    Array.from({ length: 5 }, () => [false, '']),
  );
  await eventually(async () => (await eventReasons()).includes('PlacementPublished'), 'a Kubernetes Event');
});

test('a worker whose pod is deleted is lost at once although its lease in Redis goes on', async () => {
  const [victim = ''] = await release.pods('expert');
  await plane.kubectl(['delete', 'pod', victim, '--grace-period=0', '--force', '--wait=false']);
  await eventually(() => release.placed() !== '' && !release.placed().includes(victim), 'a placement without it');
  assert.equal(
    release.cluster.members.members().some(({ id }) => id === victim),
    true,
    'its lease',
  );
  await eventually(async () => {
    const log = await release.cluster.eventLog.read();
    return log.some(({ kind, message }) => kind === 'worker_left' && message === `${victim} left: its pod is gone`);
  }, 'the reason');
  const pods = await release.readyPods('expert', 3);
  const fresh = pods.find((pod) => !release.placed().includes(pod)) ?? '';
  await release.worker(fresh);
  await eventually(() => release.placed() === pods.join(), 'a placement with its successor');
});

test('a pod that terminates drains before it says so itself', async () => {
  const [victim = ''] = await release.pods('expert');
  // What holds the pod in its end for as long as the test wants.
  const hold = (finalizers: string[]): Promise<unknown> =>
    plane.kubectl(['patch', 'pod', victim, '-p', JSON.stringify({ metadata: { finalizers } }), '--type=merge']);
  await hold(['bench.guildhall.dev/hold']);
  undo.push(() => hold([]));
  await plane.kubectl(['delete', 'pod', victim, '--wait=false']);
  await eventually(() => !release.placed().includes(victim), 'a placement without it');
  const said = await eventually(async () => {
    const now = await status();
    return now?.workers.some(({ id, draining }) => id === victim && draining) === true ? now : null;
  }, 'the drain');
  assert.ok(said.drains.some(({ worker, by }) => worker === victim && by === null));
  const { stdout } = await plane.kubectl(['get', 'pod', victim, '-o', 'name']);
  assert.equal(stdout.trim(), `pod/${victim}`, 'the pod is still there');
  const pods = await release.readyPods('expert', 3);
  for (const pod of pods) if (!release.placed().includes(pod)) await release.worker(pod);
  await eventually(() => release.placed() === pods.join(), 'a placement with its successor');
});

test('other writers of replicas and other scalers are seen', async () => {
  const scaled = await plane.kubectl(['scale', 'deployment', release.routers, '--replicas=3']);
  assert.equal(scaled.code, 0, scaled.stderr);
  await eventually(() => workload(release.routers)?.replicas === 3, 'the change');
  assert.match(workload(release.routers)?.foreignWriter ?? '', /^kubectl/);
  await release.readyPods('router', 3);
  const ours = await eventually(async () => {
    const outcome = await app.kubernetes?.workloads.scale(release.routers, 3, 2);
    return outcome === 'conflict' ? null : outcome;
  }, 'a write');
  assert.equal(ours, 'done');
  await eventually(() => workload(release.routers)?.replicas === 2, 'our change');
  assert.equal(workload(release.routers)?.foreignWriter, null);
  assert.equal(await app.kubernetes?.workloads.scale(release.routers, 3, 5), 'conflict');
  const hpas = plane.kubeConfig().makeApiClient(AutoscalingV2Api);
  const scaleTargetRef = { apiVersion: 'apps/v1', kind: 'Deployment', name: release.routers };
  await hpas.createNamespacedHorizontalPodAutoscaler({
    namespace,
    body: { metadata: { name: 'theirs' }, spec: { scaleTargetRef, minReplicas: 2, maxReplicas: 2 } },
  });
  undo.push(() => hpas.deleteNamespacedHorizontalPodAutoscaler({ namespace, name: 'theirs' }));
  await eventually(() => workload(release.routers)?.otherScaler === 'theirs', 'the other scaler');
});

test('a Deployment that the Role does not name cannot be scaled, and a pause is seen', async () => {
  assert.equal(await app.kubernetes?.workloads.scale(`${release.fullname}-gateway`, 2, 3), 'refused');
  await plane.kubectl(['annotate', 'deployment', release.experts, 'guildhall.dev/autoscale=paused']);
  await eventually(() => workload(release.experts)?.paused === true, 'the pause');
  await plane.kubectl(['annotate', 'deployment', release.experts, 'guildhall.dev/autoscale-']);
  await eventually(() => workload(release.experts)?.paused === false, 'its end');
});

test('a shrink drains its pods, deletes exactly them, and leaves no marks; never two at a time', async () => {
  const pods = await release.readyPods('expert', 3);
  const victim = pods[1] ?? '';
  await eventually(() => workload(release.experts)?.rolling === false, 'calm');
  assert.equal(await app.kubernetes?.shrinks.shrink(release.experts, [victim]), 'done');
  assert.equal(await app.kubernetes?.shrinks.shrink(release.experts, [pods[0] ?? '']), 'conflict');
  await eventually(async () => (await release.replicas(release.experts)) === 2, 'fewer replicas');
  const left = await release.readyPods('expert', 2);
  assert.deepEqual(
    left,
    pods.filter((pod) => pod !== victim),
  );
  assert.equal(release.placed(), left.join());
  await eventually(async () => (await release.cluster.drains.read()).requests.size === 0, 'no request left');
  assert.ok((await eventReasons()).includes('Shrunk'));
  const { stdout } = await plane.kubectl(['get', 'pods', '-o', 'jsonpath={.items[*].metadata.annotations}']);
  assert.doesNotMatch(stdout, /pod-deletion-cost/);
});

test('a shrink that another controller began is gone on with; one that is called off leaves everything as it was', async () => {
  const pods = await release.readyPods('expert', 2);
  const victim = pods[0] ?? '';
  assert.equal(await app.kubernetes?.shrinks.shrink(release.experts, [victim]), 'done');
  await eventually(async () => (await release.cluster.drains.read()).requests.size === 1, 'the request');
  await app.stop();
  app = await controller('controller-2');
  await eventually(async () => (await release.replicas(release.experts)) === 1, 'the successor to finish it');
  assert.deepEqual(await release.readyPods('expert', 1), [pods[1]]);
  await eventually(async () => (await release.cluster.drains.read()).requests.size === 0, 'no request left');
  // Grown again, and called off before anything is lowered.
  await eventually(async () => (await app.kubernetes?.workloads.scale(release.experts, 1, 2)) === 'done', 'growth');
  const grown = await release.readyPods('expert', 2);
  const fresh = grown.find((pod) => pod !== pods[1]) ?? '';
  await eventually(() => workload(release.experts)?.rolling === false, 'calm');
  const guarded = Promise.withResolvers<void>();
  if (app.kubernetes !== null)
    app.kubernetes.shrinks.guard = () => {
      guarded.resolve();
      return 'not yet';
    };
  assert.equal(await app.kubernetes?.shrinks.shrink(release.experts, [fresh]), 'done');
  await guarded.promise;
  assert.equal(await release.replicas(release.experts), 2);
  assert.equal(await app.kubernetes?.shrinks.abort(release.experts), 'done');
  await eventually(async () => (await release.cluster.drains.read()).requests.size === 0, 'the request to go');
  await eventually(() => app.kubernetes?.workloads.deletionCosts().size === 0, 'the mark to go');
  assert.deepEqual(await release.readyPods('expert', 2), grown);
});
