import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { AppsV1Api, AutoscalingV1Api, CoreV1Api, type V1Deployment, VersionApi } from '@kubernetes/client-node';
import { eventually } from '@guildhall/common/testing';
import { VERSIONS } from './binaries/index.ts';
import { type ControlPlane, fakeNode, startControlPlane } from './index.ts';

let cluster: ControlPlane;
const say = (line: string): void => void process.stdout.write(`  ${line}\n`);

before(async () => {
  cluster = await startControlPlane({ controllers: true, scheduler: true, kwok: true, say });
  const core = cluster.kubeConfig().makeApiClient(CoreV1Api);
  await core.createNode({ body: fakeNode({ name: 'gpu-0', gpus: 2 }) });
});
after(async () => await cluster?.stop());

function deployment(name: string, replicas: number, annotations: Record<string, string> = {}, gpus = 0): V1Deployment {
  const labels = { app: name };
  const resources = gpus === 0 ? {} : { limits: { 'nvidia.com/gpu': String(gpus) } };
  return {
    metadata: { name },
    spec: {
      replicas,
      selector: { matchLabels: labels },
      template: {
        metadata: { labels, annotations },
        spec: { containers: [{ name: 'main', image: 'example.test/none', resources }] },
      },
    },
  };
}

const namespace = 'default';

async function create(
  name: string,
  replicas: number,
  annotations: Record<string, string> = {},
  gpus = 0,
): Promise<void> {
  const apps = cluster.kubeConfig().makeApiClient(AppsV1Api);
  await apps.createNamespacedDeployment({ namespace, body: deployment(name, replicas, annotations, gpus) });
}

async function status(name: string): Promise<V1Deployment['status']> {
  const apps = cluster.kubeConfig().makeApiClient(AppsV1Api);
  return (await apps.readNamespacedDeployment({ namespace, name })).status;
}

test('the server says which version it is, and Helm and kubectl reach it', async () => {
  const version = await cluster.kubeConfig().makeApiClient(VersionApi).getCode();
  assert.equal(version.gitVersion, `v${VERSIONS.kubernetes}`);
  const listed = await cluster.helm(['list', '-A', '-o', 'json']);
  assert.deepEqual([listed.code, listed.stdout.trim()], [0, '[]'], listed.stderr);
  const nodes = await cluster.kubectl(['get', 'nodes', '-o', 'name']);
  assert.equal(nodes.stdout.trim(), 'node/gpu-0', nodes.stderr);
});

test('pods of a Deployment become ready on a fake node and scale through the API', async () => {
  await create('plain', 2);
  await eventually(async () => (await status('plain'))?.readyReplicas === 2, 'two ready pods');
  const scaling = cluster.kubeConfig().makeApiClient(AppsV1Api);
  const { metadata } = await scaling.readNamespacedDeploymentScale({ namespace, name: 'plain' });
  await scaling.replaceNamespacedDeploymentScale({
    namespace,
    name: 'plain',
    body: { ...(metadata && { metadata }), spec: { replicas: 1 } },
  });
  await eventually(async () => (await status('plain'))?.replicas === 1, 'one pod');
});

test('a pod without a GPU left stays unschedulable', async () => {
  await create('large', 3, {}, 1);
  await eventually(async () => (await status('large'))?.readyReplicas === 2, 'two ready pods');
  const core = cluster.kubeConfig().makeApiClient(CoreV1Api);
  await eventually(async () => {
    const { items } = await core.listNamespacedPod({ namespace, labelSelector: 'app=large' });
    const conditions = items.flatMap((pod) => pod.status?.conditions ?? []);
    return conditions.some(({ type, reason }) => type === 'PodScheduled' && reason === 'Unschedulable');
  }, 'an unschedulable pod');
});

test('pods load slowly, crash or never become ready where they say so', async () => {
  await create('never', 1, { 'bench.guildhall.dev/behaviour': 'never-ready' });
  await create('crash', 1, { 'bench.guildhall.dev/behaviour': 'crash-loop' });
  await create('slow', 1, { 'bench.guildhall.dev/ready-after': '2s' });
  const core = cluster.kubeConfig().makeApiClient(CoreV1Api);
  const pod = async (app: string) => {
    const { items } = await core.listNamespacedPod({ namespace, labelSelector: `app=${app}` });
    return items[0]?.status;
  };
  await eventually(async () => {
    return (await pod('crash'))?.containerStatuses?.[0]?.state?.waiting?.reason === 'CrashLoopBackOff';
  }, 'a crash loop');
  await eventually(async () => (await status('slow'))?.readyReplicas === 1, 'the slow pod');
  assert.equal((await pod('never'))?.phase, 'Running');
  assert.equal((await status('never'))?.readyReplicas ?? 0, 0);
});

test('a service account may do what its roles allow and nothing else', async () => {
  const config = await cluster.serviceAccountConfig(namespace, 'default');
  assert.equal(await cluster.whoAmI(config), 'system:serviceaccount:default:default');
  await assert.rejects(config.makeApiClient(AppsV1Api).listNamespacedDeployment({ namespace }), /403/);
  await assert.rejects(
    config.makeApiClient(AutoscalingV1Api).listNamespacedHorizontalPodAutoscaler({ namespace }),
    /403/,
  );
});

test('a namespace that enforces `restricted` refuses a pod without a security context', async () => {
  const labels = { 'pod-security.kubernetes.io/enforce': 'restricted' };
  const core = cluster.kubeConfig().makeApiClient(CoreV1Api);
  await core.createNamespace({ body: { metadata: { name: 'guarded', labels } } });
  const body = { metadata: { name: 'loose' }, spec: { containers: [{ name: 'main', image: 'example.test/none' }] } };
  await assert.rejects(core.createNamespacedPod({ namespace: 'guarded', body }), /violates PodSecurity/);
});
