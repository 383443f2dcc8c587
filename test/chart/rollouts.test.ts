import assert from 'node:assert/strict';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { object, ofKind, type PodSpec, workload, workloads } from './manifests.ts';
import { CHART, render } from './render.ts';

const GENERATION = 'guildhall.dev/generation';

async function generation(values: Record<string, unknown>, chart = CHART): Promise<string> {
  const objects = await render(values, { chart });
  const all = workloads(objects).filter(({ object: { kind } }) => kind === 'Deployment');
  const found = new Set(all.map(({ labels }) => labels[GENERATION]));
  assert.equal(found.size, 1, 'every process is of one generation');
  const [name = ''] = found;
  assert.match(name ?? '', /^[0-9a-f]{10}$/);
  return name as string;
}

/** A copy of the chart with one file changed. */
function changed(file: string, change: (text: string) => string): { chart: string; [Symbol.dispose](): void } {
  const chart = join(mkdtempSync(join(tmpdir(), 'guildhall-chart-')), 'guildhall');
  cpSync(CHART, chart, { recursive: true });
  const path = join(chart, file);
  const before = readFileSync(path, 'utf8');
  writeFileSync(path, change(before));
  assert.notEqual(readFileSync(path, 'utf8'), before);
  return { chart, [Symbol.dispose]: () => rmSync(join(chart, '..'), { recursive: true }) };
}

const MODEL = { source: `hf://org/name@${'a'.repeat(40)}` };

test('whatever changes the numbers makes a new generation', async () => {
  const seen = [await generation({ model: MODEL })];
  for (const change of [
    { source: `hf://org/name@${'b'.repeat(40)}` },
    { sha256: '1'.repeat(64) },
    { weights: 'q8' },
    { kvDtype: 'fp8' },
    { combine: 'partial' },
    { bf16Kernels: 'bf16-dot' },
  ]) {
    seen.push(await generation({ model: { ...MODEL, ...change } }));
  }
  assert.equal(new Set(seen).size, seen.length);
});

test('a new version of the kernels makes a new generation of those that use them, and of no others', async () => {
  using chart = changed('files/facts.json', (text) => text.replace('"q8-dot": 1', '"q8-dot": 2'));
  const q8 = { model: { ...MODEL, weights: 'q8' } };
  assert.notEqual(await generation(q8), await generation(q8, chart.chart));
  assert.equal(await generation({ model: MODEL }), await generation({ model: MODEL }, chart.chart));
});

test('nothing else makes a new generation', async () => {
  const first = await generation({ model: MODEL });
  for (const values of [
    { router: { replicas: 5, config: { kvMemory: '2GiB' } } },
    { expertGroups: [{ name: 'a' }, { name: 'b' }] },
    { image: { tag: 'next' } },
    { model: { ...MODEL, names: ['other'], store: { type: 'hostPath', hostPath: '/x' } } },
  ]) {
    assert.equal(await generation({ model: MODEL, ...values }), first);
  }
});

test('processes of one generation are a cluster of their own', async () => {
  const objects = await render({ model: MODEL });
  const { pod, labels } = workload(objects, 'expert');
  const cluster = pod.containers[0]?.env?.find(({ name }) => name === 'GUILDHALL_CLUSTER')?.value;
  assert.equal(cluster, `guildhall-${labels[GENERATION]}`);
});

test('a new version of the chart alone restarts no pod', async () => {
  using chart = changed('Chart.yaml', (text) => text.replace(/^version: .*$/m, 'version: 9.9.9'));
  const [before, after] = [await render({}), await render({}, { chart: chart.chart })];
  for (const { object: made, pod, labels, annotations } of workloads(before).filter(
    ({ selector }) => selector !== null,
  )) {
    const now = workloads(after).find(({ object: other }) => other.metadata.name === made.metadata.name);
    assert.deepEqual([now?.pod, now?.labels, now?.annotations], [pod, labels, annotations]);
  }
  assert.notDeepEqual(before[0]?.metadata.labels, after[0]?.metadata.labels);
});

test('a changed option restarts the pods of its service, and no others', async () => {
  const [before, after] = [await render({}), await render({ router: { config: { maxRunning: 32 } } })];
  const differ = workloads(before)
    .filter(({ object: made, annotations }) => {
      const now = workloads(after).find(({ object: other }) => other.metadata.name === made.metadata.name);
      return JSON.stringify(now?.annotations) !== JSON.stringify(annotations);
    })
    .map(({ object: made }) => made.metadata.name);
  assert.deepEqual(differ, ['guildhall-router']);
});

interface DeploymentSpec {
  strategy: { type: string; rollingUpdate?: { maxSurge: unknown; maxUnavailable: unknown } };
  minReadySeconds: number;
  progressDeadlineSeconds: number;
}

async function specOf(values: Record<string, unknown>, component: string): Promise<DeploymentSpec> {
  return workload(await render(values), component).object.spec as unknown as DeploymentSpec;
}

test('a rollout starts the new pod before it ends an old one', async () => {
  for (const component of ['gateway', 'router', 'expert', 'controller']) {
    const { strategy, progressDeadlineSeconds, minReadySeconds } = await specOf({}, component);
    assert.deepEqual(strategy, { type: 'RollingUpdate', rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } });
    assert.equal(progressDeadlineSeconds, 1200);
    assert.ok(minReadySeconds >= 5);
  }
});

test('without spare machines a rollout ends one worker before it starts its successor', async () => {
  const values = { experts: { noSpareMachines: true } };
  const { strategy } = await specOf(values, 'expert');
  assert.deepEqual(strategy.rollingUpdate, { maxSurge: 0, maxUnavailable: 1 });
  assert.deepEqual((await specOf(values, 'router')).strategy.rollingUpdate, { maxSurge: 1, maxUnavailable: 0 });
});

test('a model that comes side by side brings every router and worker up at once', async () => {
  const values = { model: { rollout: 'sideBySide' } };
  for (const component of ['router', 'expert']) {
    assert.deepEqual((await specOf(values, component)).strategy.rollingUpdate, { maxSurge: '100%', maxUnavailable: 0 });
  }
  assert.equal((await specOf(values, 'gateway')).strategy.rollingUpdate?.maxSurge, 1);
});

async function podOf(values: Record<string, unknown>, component: string): Promise<PodSpec> {
  return workload(await render(values), component).pod;
}

test('pods get the time that their drain takes, and 15 s', async () => {
  const { drainMs } = JSON.parse(readFileSync(join(CHART, 'files', 'facts.json'), 'utf8')) as {
    drainMs: Record<string, number>;
  };
  const seconds = (service: string): number => Math.ceil((drainMs[service] ?? Number.NaN) / 1000);
  const grace = async (values: Record<string, unknown>, component: string): Promise<number> =>
    (await podOf(values, component)).terminationGracePeriodSeconds;
  assert.equal(await grace({}, 'gateway'), 5 + 600 + 15);
  assert.equal(await grace({ gateway: { config: { drainMs: null } } }, 'gateway'), 5 + seconds('gateway') + 15);
  assert.equal(await grace({ gateway: { config: { lingerMs: 7001 } } }, 'gateway'), 8 + 600 + 15);
  assert.equal(await grace({ gateway: { config: { lingerMs: null } } }, 'gateway'), 600 + 15);
  assert.equal(await grace({}, 'router'), seconds('router') + 15);
  assert.equal(await grace({}, 'expert'), seconds('expert') + 15);
  assert.equal(await grace({ router: { config: { drainMs: 120_001 } } }, 'router'), 136);
  assert.equal(await grace({ expertGroups: [{ name: 'a', config: { drainMs: 0 } }] }, 'expert'), 15);
  assert.equal(await grace({ pods: { terminationGracePeriodSeconds: 77 } }, 'router'), 77);
});

test('pods are drained before they are told to end', async () => {
  const hook = async (component: string): Promise<unknown> =>
    (await podOf({}, component)).containers[0]?.lifecycle?.preStop;
  assert.deepEqual(await hook('gateway'), { exec: { command: ['guildhall-drain'] } });
  assert.deepEqual(await hook('router'), { exec: { command: ['guildhall-drain'] } });
  assert.deepEqual(await hook('expert'), { exec: { command: ['guildhall-drain'] } });
});

test('budgets let one pod go, and no single pod has one unless asked', async () => {
  const names = async (values: Record<string, unknown>): Promise<string[]> =>
    ofKind(await render(values), 'PodDisruptionBudget').map(({ metadata }) => metadata.name);
  const objects = await render({
    expertGroups: [
      { name: 'a', replicas: 1 },
      { name: 'b', replicas: 3 },
    ],
  });
  assert.deepEqual(object(objects, 'PodDisruptionBudget', 'guildhall-expert-b').spec, {
    maxUnavailable: 1,
    unhealthyPodEvictionPolicy: 'AlwaysAllow',
    selector: { matchLabels: workload(objects, 'expert', 'b').selector },
  });
  const made = ofKind(objects, 'PodDisruptionBudget').map(({ metadata }) => metadata.name);
  assert.ok(!made.includes('guildhall-expert-a'));
  assert.ok((await names({ pods: { pdb: { mode: 'always' } }, router: { replicas: 1 } })).includes('guildhall-router'));
  assert.deepEqual(await names({ pods: { pdb: { mode: 'never' } } }), []);
  const least = { autoscaler: { mode: 'active' }, expertGroups: [{ name: 'a', autoscaler: { min: 2 } }] };
  assert.ok((await names(least)).includes('guildhall-expert-a'));
});

test('every generated secret is long, and made anew only where none is there', async () => {
  const secrets = ofKind(await render({ commonLabels: { first: 'a' } }), 'Secret');
  const again = ofKind(await render({ commonLabels: { first: 'b' } }), 'Secret');
  assert.deepEqual(
    secrets.map(({ metadata }) => metadata.name),
    ['guildhall-cluster', 'guildhall-api-keys', 'guildhall-valkey'],
  );
  for (const [index, secret] of secrets.entries()) {
    for (const [key, value] of Object.entries(secret.data ?? {})) {
      const plain = Buffer.from(value, 'base64').toString();
      assert.match(plain, /^[A-Za-z0-9]{40}( default\n)?$/, `${secret.metadata.name} ${key}`);
      assert.notEqual(again[index]?.data?.[key], value);
    }
  }
});
