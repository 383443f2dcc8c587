import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type Case, CASES } from '../chart/cases.ts';
import { CHART, render } from '../chart/render.ts';
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
  ok(await cluster.kubectl(['apply', '-f', '-'], { input: objects.map((one) => JSON.stringify(one)).join('\n---\n') }));
  ok(await cluster.kubectl(['wait', '--for=condition=Established', 'crd', '--all', '--timeout=60s']));
});
after(async () => await cluster?.stop());

/** Objects of all cases, each once: cases have most of them in common. */
async function objectsOf(cases: readonly Case[]): Promise<string[]> {
  const texts = new Set<string>();
  for (const { values, profiles = [] } of cases) {
    for (const object of await render(values, { profiles, namespace: DRY })) {
      // Generated anew by every rendering.
      if (object.kind === 'Secret') object.data = {};
      texts.add(JSON.stringify(object));
    }
  }
  return [...texts];
}

/** What the API server says against objects, with a dry run that knows every field. */
async function dryRun(objects: readonly string[]): Promise<CommandResult> {
  const args = ['create', '--namespace', DRY, '--dry-run=server', '--validate=strict', '-f', '-'];
  return await cluster.kubectl(args, { input: objects.join('\n---\n') });
}

/** Accounts are there for admission; a dry run cannot create them again. */
const expected = /serviceaccounts "(guildhall|moe)" already exists/;

function complaints({ stderr }: CommandResult): string[] {
  return stderr.split('\n').filter((line) => line !== '' && !expected.test(line));
}

test('the API server takes every object of every case under the standard restricted', async () => {
  const objects = await objectsOf(CASES.filter(({ unrestricted = [] }) => unrestricted.length === 0));
  assert.ok(objects.length > 300, `${objects.length} objects`);
  assert.deepEqual(complaints(await dryRun(objects)), []);
});

test('a volume that restricted forbids is all that is amiss where values ask for one', async () => {
  const objects = await objectsOf(CASES.filter(({ unrestricted = [] }) => unrestricted.length > 0));
  const found = complaints(await dryRun(objects));
  assert.ok(found.length > 0, 'the namespace is restricted');
  assert.deepEqual(
    found.filter((line) => !/^Warning: would violate PodSecurity.*: restricted volume types \([^)]*\)$/.test(line)),
    [],
  );
});

test('the API server refuses a field that it does not know', async () => {
  const [first = ''] = await objectsOf(CASES.slice(0, 1));
  assert.match(
    (await dryRun([JSON.stringify({ ...(JSON.parse(first) as object), noSuchField: 1 })])).stderr,
    /unknown field "noSuchField"/,
  );
});

/** `helm upgrade --install` without waiting: nobody runs the pods here. Values, and flags that begin with dashes. */
async function tryUpgrade(...given: string[]): Promise<CommandResult> {
  const args = given.flatMap((one) => (one.startsWith('--') ? [one] : ['--set', one]));
  return await cluster.helm(['upgrade', '--install', 'guildhall', CHART, '--namespace', NAMESPACE, ...args]);
}

async function upgrade(...given: string[]): Promise<void> {
  ok(await tryUpgrade(...given));
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
  const back = await tryUpgrade('router.replicas=2');
  assert.match(back.stderr, /conflict with "kubectl".*\.spec\.replicas/, 'nobody takes replicas back unasked');
  await upgrade('router.replicas=2', '--force-conflicts');
  assert.equal(await replicas('guildhall-router'), '2');
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
