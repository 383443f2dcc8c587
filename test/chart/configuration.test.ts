import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { describeConfig, loadConfig } from '@guildhall/common';
import { autoscalerPolicySchema } from '@guildhall/controller/autoscaler';
import { serviceSchemas } from '../../scripts/service-schemas.ts';
import { CASES } from './cases.ts';
import { type Container, jsonFile, type Manifest, workloads, type Workload } from './manifests.ts';
import { render } from './render.ts';

const folder = mkdtempSync(join(tmpdir(), 'guildhall-chart-'));
after(() => rmSync(folder, { recursive: true }));

/** What the kubelet makes of fields and Secrets. */
const FIELDS: Record<string, string> = {
  'metadata.name': 'guildhall-router-5d4f8b7c9d-x2x4z',
  'metadata.namespace': 'models',
  'spec.nodeName': 'node-1.example',
  'status.podIP': '10.1.2.3',
  "metadata.labels['topology.kubernetes.io/zone']": 'zone-a',
};

function environment(container: Container, ipv6: boolean): Record<string, string> {
  const values: Record<string, string> = {};
  for (const { name, value, valueFrom } of container.env ?? []) {
    const path = valueFrom?.fieldRef?.fieldPath;
    const field = path === 'status.podIP' && ipv6 ? 'fd00::3' : FIELDS[path ?? ''];
    const given = value?.replace(/\$\((\w+)\)/g, (text, other: string) => values[other] ?? text);
    values[name] = given ?? field ?? (valueFrom?.resourceFieldRef === undefined ? secretOf(valueFrom) : '4');
  }
  return values;
}

function secretOf(from: { secretKeyRef?: { key: string } } | undefined): string {
  return from?.secretKeyRef?.key === 'url' ? 'redis://redis.data:6379' : 'aSecretOfTheCluster';
}

/** Services by the component whose pods run them. */
function serviceOf({ labels }: Workload): string {
  return labels['app.kubernetes.io/component'] ?? '';
}

/** The configuration as a pod's process would load it. */
async function load(objects: readonly Manifest[], pod: Workload, ipv6: boolean): Promise<Record<string, unknown>> {
  const schema = (await serviceSchemas()).get(serviceOf(pod));
  const [container] = pod.pod.containers;
  assert.ok(schema !== undefined && container !== undefined);
  const file = join(folder, 'config.json');
  writeFileSync(file, JSON.stringify(jsonFile(objects, pod.object.metadata.name, 'config.json')));
  const argv = (container.args ?? []).map((arg) => (arg === '/etc/guildhall/config.json' ? file : arg));
  return loadConfig(schema, { argv, env: environment(container, ipv6) });
}

for (const given of CASES) {
  test(`services take the configuration of a release with ${given.name}`, async () => {
    const objects = await render(given.values, { profiles: given.profiles ?? [] });
    const known = await serviceSchemas();
    const pods = workloads(objects).filter((pod) => pod.object.kind === 'Deployment' && known.has(serviceOf(pod)));
    assert.ok(pods.length >= 3);
    const ipv6 = given.values['ipFamily'] === 'IPv6';
    const clusters = new Set<unknown>();
    for (const pod of pods) {
      const config = await load(objects, pod, ipv6);
      clusters.add(config['cluster']);
      const address = ipv6 ? '[fd00::3]' : '10.1.2.3';
      const port = { gateway: 8000, router: 9000, expert: 9000, batch: 9000 }[serviceOf(pod)] ?? 9090;
      assert.equal(config['advertise'], `${address}:${port}`);
      assert.match(String(config['adminListen']), /:9090$/);
    }
    assert.equal(clusters.size, 1, 'all are in one cluster');
  });
}

test('the autoscaler takes its policy', async () => {
  for (const given of CASES) {
    const objects = await render(given.values, { profiles: given.profiles ?? [] });
    const text = objects.find(({ data }) => data?.['autoscaler.json'] !== undefined)?.data?.['autoscaler.json'];
    const { mode = 'off' } = (given.values['autoscaler'] ?? {}) as { mode?: string };
    assert.equal(text === undefined, mode === 'off', given.name);
    if (text === undefined) continue;
    const policy = autoscalerPolicySchema.parse(JSON.parse(text));
    assert.equal(policy.mode, mode);
  }
});

test('the policy has the bounds of every group that is left to it', async () => {
  const objects = await render({
    autoscaler: { mode: 'active', gpuBudget: 9 },
    gpu: { mode: 'devicePlugin' },
    router: { gpus: 1, autoscaler: { max: 7 } },
    experts: { defaults: { gpus: 2 } },
    expertGroups: [
      { name: 'a', autoscaler: { min: 2, max: 6, redundancy: 2, pricePerHour: 3 } },
      { name: 'b', autoscaler: { enabled: false } },
      { name: 'c', gpus: 4 },
    ],
  });
  const policy = autoscalerPolicySchema.parse(jsonFile(objects, 'guildhall-autoscaler', 'autoscaler.json'));
  assert.equal(policy.gpuBudget, 9);
  assert.deepEqual(
    policy.groups.map(({ name, deployment, min, max, redundancy, gpusPerReplica, pricePerHour }) => {
      return [name, deployment, min, max, redundancy, gpusPerReplica, pricePerHour];
    }),
    [
      ['a', 'guildhall-expert-a', 2, 6, 2, 2, 3],
      ['c', 'guildhall-expert-c', 1, 4, 1, 4, 0],
    ],
  );
  assert.deepEqual(
    [policy.routers?.deployment, policy.routers?.max, policy.routers?.gpusPerReplica],
    ['guildhall-router', 7, 1],
  );
});

test('values under config reach the service that they are for', async () => {
  const objects = await render({
    router: { config: { kvMemory: '3GiB', hedgeShare: 0.05 } },
    experts: { defaults: { config: { maxQueued: 32 }, resources: { limits: { memory: '10Gi' } } } },
    expertGroups: [{ name: 'a' }, { name: 'b', config: { maxQueued: 64, weightMemoryMib: 7 } }],
  });
  const router = jsonFile(objects, 'guildhall-router', 'config.json');
  assert.deepEqual([router['kvMemory'], router['hedgeShare']], ['3GiB', 0.05]);
  const a = jsonFile(objects, 'guildhall-expert-a', 'config.json');
  const b = jsonFile(objects, 'guildhall-expert-b', 'config.json');
  assert.deepEqual([a['maxQueued'], a['weightMemoryMib']], [32, 6144]);
  assert.deepEqual([b['maxQueued'], b['weightMemoryMib']], [64, 7]);
});

test('every variable of ours that a pod gets is an option of its service', async () => {
  const known = await serviceSchemas();
  for (const given of CASES) {
    const objects = await render(given.values, { profiles: given.profiles ?? [] });
    for (const pod of workloads(objects)) {
      const schema = known.get(serviceOf(pod));
      if (schema === undefined) continue;
      const options = new Set(describeConfig(schema).map(({ env }) => env));
      const names = (pod.pod.containers[0]?.env ?? []).map(({ name }) => name);
      const unknown = names.filter((name) => name.startsWith('GUILDHALL_') && !options.has(name));
      assert.deepEqual(unknown, [], `${pod.object.metadata.name} with ${given.name}`);
    }
  }
});
