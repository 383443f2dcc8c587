import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { Cluster, createMetrics, newIncarnation, systemClock } from '@guildhall/common';
import { eventually, RedisServer, silentLogger } from '@guildhall/common/testing';
import { control } from '@guildhall/proto';
import { KubeClient } from '../k8s/api/client.ts';
import { Kubernetes } from '../k8s/kubernetes.ts';
import { ApiServer } from '../k8s/testing/api-server.ts';
import type { Autoscaler } from './loop.ts';
import { openAutoscaler } from './open.ts';
import { type AutoscalerStatus, parseAutoscalerStatus } from './status.ts';

const DEPLOYMENTS = '/apis/apps/v1/namespaces/test/deployments';
const PODS = '/api/v1/namespaces/test/pods';
const logger = silentLogger();
const clock = systemClock;
let redis: RedisServer;
let api: ApiServer;
let cluster: Cluster;
let kubernetes: Kubernetes;
let autoscaler: Autoscaler | null;
let folder: string;
let told: string[];

beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'guildhall-policy-'));
  told = [];
  redis = await RedisServer.start();
  api = await ApiServer.start();
  api.fault = (_request, url) => (url.pathname.includes('keda.sh') ? { status: 404 } : null);
  cluster = new Cluster({ redis: redis.url, cluster: 'r', clock, logger });
  await cluster.start();
  const access = {
    client: new KubeClient(api.credentials, clock),
    namespace: 'test',
    release: 'r',
    leaseName: 'lease',
  };
  const config = { watchAgeMs: 60_000, cluster: 'r-g', clusterToken: null, tlsCert: null, tlsKey: null, tlsCa: null };
  const ids = { id: 'controller-1', identity: 'controller-1/1' };
  const metrics = createMetrics('controller');
  kubernetes = new Kubernetes({
    ...{ access, config, cluster, clock, logger, metrics, ...ids },
    emit: () => undefined,
    onChange: () => undefined,
  });
  const emit = (_kind: string, message: string): void => void told.push(message);
  put(2);
  kubernetes.start();
  await kubernetes.leader.start();
  autoscaler = null;
  setPolicy({});
  const deps = { id: 'controller-1', cluster, kubernetes, clock, logger, metrics, emit };
  autoscaler = openAutoscaler({ autoscalerPolicy: join(folder, 'policy.json') }, deps);
  await autoscaler?.start();
});

afterEach(async () => {
  await autoscaler?.stop();
  await kubernetes.leader.stop();
  await kubernetes.stop();
  await cluster.close();
  await api.close();
  await redis.stop();
  rmSync(folder, { recursive: true, force: true });
});

function setPolicy(given: object): void {
  const groups = [{ name: 'all', deployment: 'experts', max: 9 }];
  writeFileSync(join(folder, 'policy.json'), JSON.stringify({ mode: 'active', groups, evaluateMs: 100, ...given }));
}

/** The group's Deployment with its ready pods. */
function put(replicas: number): void {
  const selector = { 'app.kubernetes.io/instance': 'r', 'app.kubernetes.io/component': 'expert' };
  const labels = { ...selector, 'guildhall.dev/group': 'all', 'guildhall.dev/generation': 'g' };
  api.put(DEPLOYMENTS, {
    metadata: { name: 'experts', labels, generation: 1 },
    spec: { replicas, selector: { matchLabels: selector }, template: { metadata: { labels } } },
    status: { observedGeneration: 1, replicas, updatedReplicas: replicas },
  });
  for (let at = 1; at <= replicas; at += 1)
    api.put(PODS, {
      metadata: { name: `e${at}`, labels, creationTimestamp: '2026-01-01T00:00:00Z' },
      spec: { nodeName: 'n1' },
      status: {
        phase: 'Running',
        conditions: [{ type: 'Ready', status: 'True', lastTransitionTime: '2026-01-01T00:00:00Z' }],
      },
    });
}

async function worker(id: string, busy: number | undefined): Promise<void> {
  const incarnation = newIncarnation();
  const member = control.Member.fromPartial({
    ...{ id, incarnation, ready: true, group: 'all', numLayers: 1, numExperts: 2, expertBytes: 1n },
    weightCapacityBytes: 2n,
    holdings: [{ layer: 0, experts: [0, 1] }],
    ...(busy === undefined ? {} : { busy, rowsPerSecond: busy * 1000 }),
  });
  const value = (): Uint8Array => control.Member.encode(member).finish();
  await cluster.lease({ kind: 'expert', id, incarnation, value, onLost: () => undefined }).join();
}

async function status(): Promise<AutoscalerStatus | null> {
  const text = await cluster.redis.get(cluster.keys.status('autoscaler'));
  return text === null ? null : parseAutoscalerStatus(text);
}

const replicas = (): unknown =>
  (api.get(DEPLOYMENTS, 'experts')?.['spec'] as { replicas: number } | undefined)?.replicas;

test('the leader writes what the load needs through /scale, and keeps what it saw and decided', async () => {
  for (const id of ['e1', 'e2']) await worker(id, 0.95);
  await eventually(() => replicas() === 4, 'four replicas');
  assert.ok(api.count(/deployments\/experts\/scale/) >= 1);
  const now = await eventually(async () => {
    const seen = await status();
    return seen?.plan?.decisions[0]?.actual === 4 ? seen : null;
  }, 'the status');
  assert.equal(now.blind, null);
  assert.match(told.join('\n'), /all from 2 to 4 replicas: 1900 rows\/s/);
});

test('a policy that changes is taken up, one that is wrong leaves the last one, and a wrong one is refused at the start', async () => {
  setPolicy({ mode: 'recommend' });
  await eventually(async () => (await status())?.mode === 'recommend', 'the new policy');
  for (const id of ['e1', 'e2']) await worker(id, 0.95);
  await eventually(() => told.some((message) => message.startsWith('recommended: all from 2 to 4')), 'the advice');
  assert.equal(replicas(), 2, 'and nothing was written');
  writeFileSync(join(folder, 'policy.json'), '{"mode":');
  await clock.sleep(300);
  assert.equal((await status())?.mode, 'recommend');
  const deps = {
    id: 'c',
    cluster,
    kubernetes: null,
    clock,
    logger,
    metrics: createMetrics('controller'),
    emit: () => undefined,
  };
  assert.throws(() => openAutoscaler({ autoscalerPolicy: join(folder, 'policy.json') }, deps), {
    code: 'config_invalid',
  });
  assert.equal(openAutoscaler({ autoscalerPolicy: null }, deps), null);
});

test('while Redis is away nothing is decided', async () => {
  for (const id of ['e1', 'e2']) await worker(id, 0.1);
  await eventually(async () => (await status())?.view?.workloads[0]?.group !== null, 'the load');
  redis.pause();
  await eventually(() => cluster.members.stale, 'that Redis is away');
  const writes = api.count(/scale/);
  await clock.sleep(500);
  assert.equal(api.count(/scale/), writes);
  redis.resume();
  await eventually(() => !cluster.members.stale, 'Redis');
});
