import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { stringify } from 'yaml';
import { CASES } from '../chart/cases.ts';
import { CHART, template } from '../chart/render.ts';
import { type CommandResult, type ControlPlane, startControlPlane } from './index.ts';

/** Kinds of others that the chart renders: what they hold is checked against their schemas in test/chart. */
const FOREIGN: [string, string, string][] = [
  ['keda.sh', 'v1alpha1', 'ScaledObject'],
  ['monitoring.coreos.com', 'v1', 'ServiceMonitor'],
  ['monitoring.coreos.com', 'v1', 'PrometheusRule'],
  ['gateway.networking.k8s.io', 'v1', 'HTTPRoute'],
  ['inference.networking.k8s.io', 'v1', 'InferencePool'],
  ['cert-manager.io', 'v1', 'Certificate'],
  ['cert-manager.io', 'v1', 'Issuer'],
];

const NAMESPACE = 'models';
/** Where nothing is made but the accounts that admission of pods looks up. */
const DRY = 'dry';
let cluster: ControlPlane;

function definition(group: string, version: string, kind: string): unknown {
  const plural = `${kind.toLowerCase()}s`;
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: {
      name: `${plural}.${group}`,
      annotations: { 'api-approved.kubernetes.io': 'unapproved, for a test' },
    },
    spec: {
      group,
      scope: 'Namespaced',
      names: { kind, plural, singular: kind.toLowerCase() },
      versions: [
        {
          name: version,
          served: true,
          storage: true,
          schema: { openAPIV3Schema: { type: 'object', 'x-kubernetes-preserve-unknown-fields': true } },
        },
      ],
    },
  };
}

function ok({ code, stderr }: CommandResult): void {
  assert.equal(code, 0, stderr);
}

before(async () => {
  cluster = await startControlPlane({ say: (line) => void process.stdout.write(`  ${line}\n`) });
  const labels = Object.fromEntries(
    ['enforce', 'warn'].map((mode) => [`pod-security.kubernetes.io/${mode}`, 'restricted']),
  );
  const objects = [
    ...[NAMESPACE, DRY].map((name) => ({ apiVersion: 'v1', kind: 'Namespace', metadata: { name, labels } })),
    ...['guildhall', 'moe'].map((name) => ({
      apiVersion: 'v1',
      kind: 'ServiceAccount',
      metadata: { name, namespace: DRY },
    })),
    ...FOREIGN.map((names) => definition(...names)),
  ];
  ok(await cluster.kubectl(['apply', '-f', '-'], { input: objects.map((one) => stringify(one)).join('---\n') }));
  ok(await cluster.kubectl(['wait', '--for=condition=Established', 'crd', '--all', '--timeout=60s']));
});
after(async () => await cluster?.stop());

for (const { name, values, profiles = [], unrestricted = [] } of CASES) {
  test(`the API server takes a release with ${name}`, async () => {
    const { stdout } = await template(values, { profiles, namespace: DRY });
    const dry = ['apply', '--namespace', DRY, '--dry-run=server', '--validate=strict', '-f', '-'];
    const { code, stderr } = await cluster.kubectl(dry, { input: stdout });
    if (unrestricted.length === 0) {
      assert.equal(code, 0, stderr);
      assert.doesNotMatch(stderr, /Warning/);
    } else {
      // The volume is not allowed under `restricted`, and nothing else is amiss.
      const warnings = stderr
        .split('\n')
        .filter((line) => line.startsWith('Warning') && !/restricted volume types/.test(line));
      assert.deepEqual(warnings, []);
    }
  });
}

/** `helm upgrade --install` without waiting: nobody runs the pods here. */
async function upgrade(...values: string[]): Promise<void> {
  const sets = values.flatMap((value) => ['--set', value]);
  ok(await cluster.helm(['upgrade', '--install', 'guildhall', CHART, '--namespace', NAMESPACE, ...sets]));
}

async function read(kind: string, name: string, path: string): Promise<string> {
  const result = await cluster.kubectl(['get', kind, name, '--namespace', NAMESPACE, '-o', `jsonpath={${path}}`]);
  ok(result);
  return result.stdout;
}

const SECRETS = ['guildhall-cluster', 'guildhall-api-keys', 'guildhall-valkey'];
const secrets = async (): Promise<string[]> =>
  await Promise.all(SECRETS.map(async (name) => await read('secret', name, '.data')));
const surge = async (name: string): Promise<string> =>
  await read('deployment', name, '.spec.strategy.rollingUpdate.maxSurge');
const replicas = async (name: string): Promise<string> => await read('deployment', name, '.spec.replicas');

test('an upgrade keeps the secrets that were generated', async () => {
  await upgrade();
  const before = await secrets();
  await upgrade('router.replicas=3');
  assert.deepEqual(await secrets(), before);
  assert.equal(await replicas('guildhall-router'), '3');
  const other = await cluster.helm(['template', 'guildhall', CHART, '--namespace', NAMESPACE]);
  assert.ok(
    !other.stdout.includes(JSON.parse(before[0] ?? '{}')['token'] as string),
    'template has no cluster to read',
  );
});

test('a new model comes up whole beside the old one, and the next upgrade is an ordinary one', async () => {
  await upgrade();
  assert.equal(await surge('guildhall-router'), '1');
  await upgrade('model.kvDtype=fp8');
  assert.deepEqual([await surge('guildhall-router'), await surge('guildhall-expert-all')], ['100%', '100%']);
  assert.equal(await surge('guildhall-gateway'), '1');
  await upgrade('model.kvDtype=fp8', 'gateway.replicas=3');
  assert.equal(await surge('guildhall-router'), '1');
});

test('a new model without room for it is refused, or ends the old one first', async () => {
  await upgrade('experts.noSpareMachines=true', 'model.rollout=recreate');
  const sets = ['--set', 'experts.noSpareMachines=true', '--set', 'model.combine=partial'];
  const args = ['upgrade', 'guildhall', CHART, '--namespace', NAMESPACE, ...sets];
  const refused = await cluster.helm(args);
  assert.notEqual(refused.code, 0);
  assert.match(refused.stderr, /set model\.rollout to recreate/);
  ok(await cluster.helm([...args, '--set', 'model.rollout=recreate']));
  assert.equal(await read('deployment', 'guildhall-expert-all', '.spec.strategy.type'), 'Recreate');
});

test('the autoscaler takes the replicas over as they are', async () => {
  await upgrade('expertGroups[0].replicas=3', 'expertGroups[0].name=all', 'router.replicas=4');
  await upgrade('autoscaler.mode=active');
  assert.deepEqual([await replicas('guildhall-router'), await replicas('guildhall-expert-all')], ['4', '3']);
  ok(await cluster.kubectl(['scale', 'deployment/guildhall-router', '--replicas=5', '--namespace', NAMESPACE]));
  await upgrade('autoscaler.mode=active', 'gateway.replicas=3');
  assert.deepEqual([await replicas('guildhall-router'), await replicas('guildhall-expert-all')], ['5', '3']);
  const fields = '.metadata.managedFields[?(@.manager=="helm")].fieldsV1.f:spec.f:replicas';
  assert.equal(await read('deployment', 'guildhall-router', fields), '', 'Helm let go of what another one writes');
});

test('what a release leaves behind is nothing', async () => {
  await upgrade(
    'alerts.enabled=true',
    'dashboards.enabled=true',
    'metrics.serviceMonitor.enabled=true',
    'tls.enabled=true',
  );
  ok(await cluster.helm(['uninstall', 'guildhall', '--namespace', NAMESPACE]));
  const kinds =
    'all,secrets,configmaps,serviceaccounts,roles,rolebindings,networkpolicies,poddisruptionbudgets,leases,certificates,issuers,servicemonitors,prometheusrules';
  const left = await cluster.kubectl([
    'get',
    kinds,
    '--namespace',
    NAMESPACE,
    '-l',
    'app.kubernetes.io/instance=guildhall',
    '-o',
    'name',
  ]);
  ok(left);
  assert.equal(left.stdout.trim(), '');
});
