import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { createMetrics, systemClock } from '@guildhall/common';
import { eventually, silentLogger } from '@guildhall/common/testing';
import { KubeClient } from './api/client.ts';
import { podSchema } from './api/objects.ts';
import { type Collections, openCollections } from './collections.ts';
import { endpointsOf } from './endpoints.ts';
import { replicasWriter } from './field-owner.ts';
import { podPhase } from './pod-phase.ts';
import { ApiServer } from './testing/api-server.ts';
import { KubeWorkloads } from './workloads.ts';

const DEPLOYMENTS = '/apis/apps/v1/namespaces/test/deployments';
const PODS = '/api/v1/namespaces/test/pods';
let api: ApiServer;
let client: KubeClient;
let collections: Collections;
let workloads: KubeWorkloads;
let leads: boolean;

beforeEach(async () => {
  api = await ApiServer.start();
  client = new KubeClient(api.credentials, systemClock);
  leads = true;
  const logger = silentLogger();
  const metrics = createMetrics('controller');
  const shared = { client, namespace: 'test', logger, metrics };
  api.fault = (_request, url) => (url.pathname.includes('keda.sh') ? { status: 404 } : null);
  collections = openCollections({ ...shared, release: 'r', watchAgeMs: 60_000, clock: systemClock });
  const mayWrite = (): boolean => leads;
  const events = { note: () => undefined };
  workloads = new KubeWorkloads({ ...collections, ...shared, cluster: 'r-guildhall-new', mayWrite, events });
});
afterEach(async () => {
  await Promise.all(Object.values(collections).map((one: Collections['pods']) => one.stop()));
  client.close();
  await api.close();
});

function start(): Promise<true> {
  for (const one of Object.values(collections)) one.start();
  return eventually(() => workloads.current !== null, 'the lists');
}

function deployment(name: string, component: string, generation: string, fields: Record<string, unknown> = {}): void {
  const selector = { 'app.kubernetes.io/instance': 'r', 'app.kubernetes.io/component': component };
  const labels = { ...selector, 'guildhall.dev/group': 'all' };
  api.put(DEPLOYMENTS, {
    metadata: { name, labels, generation: 1, ...fields },
    spec: {
      replicas: 2,
      selector: { matchLabels: selector },
      template: { metadata: { labels: { ...labels, 'guildhall.dev/generation': generation } } },
    },
    status: { observedGeneration: 1, replicas: 2, updatedReplicas: 2 },
  });
}

test('workloads are the Deployments of this generation with their pods; nothing is known before all is listed', async () => {
  deployment('experts', 'expert', 'new');
  deployment('routers', 'router', 'old');
  deployment('controllers', 'controller', 'new');
  const labels = { 'app.kubernetes.io/instance': 'r', 'app.kubernetes.io/component': 'expert' };
  api.put(PODS, { metadata: { name: 'e1', labels }, spec: { nodeName: 'n1' } });
  api.put(PODS, { metadata: { name: 'c1', labels: { ...labels, 'app.kubernetes.io/component': 'controller' } } });
  assert.equal(workloads.current === null, true);
  await start();
  assert.deepEqual(
    workloads.current?.map(({ deployment: name, kind, name: group, pods }) => [
      name,
      kind,
      group,
      pods.map((p) => p.name),
    ]),
    [['experts', 'experts', 'all', ['e1']]],
  );
});

test('replicas are written over the state that was seen and over no other, by the leader only', async () => {
  deployment('experts', 'expert', 'new');
  deployment('routers', 'router', 'old');
  await start();
  const replicas = (): unknown =>
    (api.get(DEPLOYMENTS, 'experts')?.['spec'] as { replicas: number } | undefined)?.replicas;
  assert.equal(await workloads.scale('experts', 3, 4), 'conflict');
  assert.equal(await workloads.scale('routers', 2, 3), 'refused', 'of another generation');
  assert.equal(await workloads.scale('experts', 2, 3), 'done');
  // What the watch has not told yet counts as somebody else's write.
  api.silent = true;
  deployment('experts', 'expert', 'new', { annotations: { by: 'somebody' } });
  assert.equal(await workloads.scale('experts', 3, 9), 'conflict');
  assert.equal(replicas(), 2);
  leads = false;
  assert.equal(await workloads.scale('experts', 3, 4), 'refused');
});

test('a deletion cost is for the pod that was seen, and can be taken back', async () => {
  const labels = { 'app.kubernetes.io/instance': 'r', 'app.kubernetes.io/component': 'expert' };
  api.put(PODS, { metadata: { name: 'e1', labels, uid: 'one' } });
  await start();
  assert.equal(await workloads.setDeletionCost('e1', -5), 'done');
  await eventually(() => workloads.deletionCosts().get('e1') === -5, 'the cost');
  assert.equal(await workloads.clearDeletionCost('e1'), 'done');
  await eventually(() => workloads.deletionCosts().size === 0, 'its end');
  assert.equal(await workloads.setDeletionCost('unknown', -5), 'refused');
});

test('a rollout shows as rolling, a pause as a pause', async () => {
  deployment('experts', 'expert', 'new', { generation: 2, annotations: { 'guildhall.dev/autoscale': 'paused' } });
  await start();
  const [one] = workloads.current ?? [];
  assert.deepEqual([one?.rolling, one?.paused], [true, true]);
});

test('phases of pods: what the scheduler, the kubelet and the container say', () => {
  const phase = (status: object, metadata: object = {}): string =>
    podPhase(podSchema.parse({ metadata: { name: 'p', ...metadata }, status }));
  const waiting = (reason: string): object => ({
    phase: 'Running',
    containerStatuses: [{ state: { waiting: { reason } } }],
  });
  const scheduled = { type: 'PodScheduled', status: 'False', reason: 'Unschedulable' };
  assert.deepEqual(
    [
      phase({}),
      phase({ phase: 'Pending', conditions: [scheduled] }),
      phase({ phase: 'Running' }),
      phase({ phase: 'Running', conditions: [{ type: 'Ready', status: 'True' }] }),
      phase({ phase: 'Running' }, { deletionTimestamp: '2026-01-01T00:00:00Z' }),
      phase({ phase: 'Failed' }),
      phase(waiting('CrashLoopBackOff')),
      phase({ ...waiting('ImagePullBackOff'), phase: 'Pending' }),
      phase({ ...waiting('ContainerCreating'), phase: 'Pending' }),
    ],
    ['pending', 'unschedulable', 'loading', 'ready', 'terminating', 'failed', 'failed', 'failed', 'pending'],
  );
});

test('the last writer of replicas is who the server names, and in doubt not us', () => {
  const by = (manager: string, time: string, field = 'f:replicas'): object => ({
    manager,
    time,
    fieldsV1: { 'f:spec': { [field]: {} } },
  });
  const writer = (...managedFields: object[]): string | null => replicasWriter({ managedFields } as never, 'us');
  assert.equal(writer(), null);
  assert.equal(writer(by('helm', '2026-01-01T00:00:00Z')), 'helm');
  assert.equal(writer(by('us', '2026-01-01T00:00:01Z'), by('helm', '2026-01-01T00:00:00Z')), 'us');
  assert.equal(writer(by('us', '2026-01-01T00:00:00Z'), by('kubectl', '2026-01-01T00:00:00Z')), 'kubectl');
  assert.equal(writer(by('kubectl', '2026-01-01T00:00:00Z'), by('us', '2026-01-01T00:00:00Z')), 'kubectl');
  assert.equal(writer(by('us', '2026-01-01T00:00:00Z'), by('kubectl', '2026-01-02T00:00:00Z', 'f:template')), 'us');
});

test('a pod of two slices is ready when one says so and terminating as soon as one does', () => {
  const slice = (conditions: object): object => ({
    endpoints: [{ conditions, targetRef: { kind: 'Pod', name: 'p' } }],
  });
  const of = (...all: object[]): unknown => endpointsOf(all.map((one) => slice(one)) as never).get('p');
  assert.deepEqual(of({}), { pod: 'p', ready: true, usable: true, terminating: false });
  assert.deepEqual(of({ ready: false }), { pod: 'p', ready: false, usable: false, terminating: false });
  assert.deepEqual(of({ ready: false }, { ready: true }), { pod: 'p', ready: true, usable: true, terminating: false });
  const ending = { ready: false, serving: true, terminating: true };
  assert.deepEqual(of({ ready: true }, ending), { pod: 'p', ready: true, usable: false, terminating: true });
});
