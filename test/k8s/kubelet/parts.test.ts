import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { V1Container, V1Service } from '@kubernetes/client-node';
import { FakeClock } from '@guildhall/common';
import fc from 'fast-check';
import { writeAtomically } from './atomic-files.ts';
import { RestartBackOff } from './back-off.ts';
import { containerEnvironment, expandVariables, MissingReference, serviceLinks } from './environment.ts';
import { serviceHosts } from './hosts.ts';
import { machineImage, repositoryOf } from './images.ts';
import { commandLine, ociSpec } from './oci-spec.ts';
import { podStatus } from './pod-status.ts';
import { ProbeState } from './probe-state.ts';
import { projectedFiles } from './projection.ts';
import { inUnits, parseQuantity } from './quantity.ts';
import { processRights, RefusedContainer } from './security.ts';

const pod = {
  metadata: {
    name: 'web-1',
    namespace: 'shop',
    uid: 'u1',
    labels: { app: 'web', zone: 'a' },
    annotations: { note: 'x"y' },
  },
  spec: { nodeName: 'proc-0', serviceAccountName: 'web', containers: [{ name: 'main' }] },
};
const facts = { podIP: '10.244.1.5', hostIP: '10.240.0.1' };
const node = { cpu: '4', memory: '8Gi' };

test('quantities', () => {
  assert.equal(parseQuantity('500m'), 0.5);
  assert.equal(parseQuantity('2Gi'), 2 * 2 ** 30);
  assert.equal(parseQuantity('1e3'), 1000);
  assert.equal(inUnits('100m', '1m'), '100');
  assert.equal(inUnits('1500m', undefined), '2');
  assert.equal(inUnits('1Gi', '1Mi'), '1024');
  assert.throws(() => parseQuantity('much'), /not a quantity/);
});

test('references to variables are replaced once, and only known ones', () => {
  const values = new Map([
    ['A', 'one'],
    ['B', '$(A)'],
  ]);
  assert.equal(expandVariables('$(A)-$(B)-$(C)-$$(A)-$A', values), 'one-$(A)-$(C)-$(A)-$A');
});

test('a container gets its variables from everywhere, later ones over earlier ones', async () => {
  const container: V1Container = {
    name: 'main',
    resources: { limits: { memory: '64Mi' } },
    envFrom: [{ configMapRef: { name: 'settings' }, prefix: 'S_' }],
    env: [
      { name: 'IP', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } },
      { name: 'ADDRESS', value: '$(IP):9000' },
      { name: 'PASSWORD', valueFrom: { secretKeyRef: { name: 'keys', key: 'password' } } },
      { name: 'MEMORY', valueFrom: { resourceFieldRef: { resource: 'limits.memory', divisor: '1Mi' } } },
      { name: 'CPU', valueFrom: { resourceFieldRef: { resource: 'limits.cpu' } } },
      { name: 'ZONE', valueFrom: { fieldRef: { fieldPath: "metadata.labels['zone']" } } },
      { name: 'PATH', value: '/over' },
    ],
  };
  const sources = {
    configMap: (name: string) => Promise.resolve(name === 'settings' ? { level: 'high' } : undefined),
    secret: (name: string) => Promise.resolve(name === 'keys' ? { password: 'geheim' } : undefined),
  };
  const input = { pod, container, facts, node, sources, image: { PATH: '/bin' }, links: new Map() };
  assert.deepEqual(Object.fromEntries(await containerEnvironment(input)), {
    PATH: '/over',
    S_level: 'high',
    IP: '10.244.1.5',
    ADDRESS: '10.244.1.5:9000',
    PASSWORD: 'geheim',
    MEMORY: '64',
    CPU: '4',
    ZONE: 'a',
  });
  const env = [{ name: 'X', valueFrom: { secretKeyRef: { name: 'keys', key: 'other' } } }];
  await assert.rejects(containerEnvironment({ ...input, container: { name: 'main', env } }), MissingReference);
});

function service(name: string, clusterIP: string, namespace = 'shop'): V1Service {
  return { metadata: { name, namespace }, spec: { clusterIP, ports: [{ name: 'http', port: 80, protocol: 'TCP' }] } };
}

test('Services are variables and names of hosts', () => {
  const links = serviceLinks([service('my-web', '10.96.1.1'), service('pods', 'None')]);
  assert.equal(links.get('MY_WEB_SERVICE_HOST'), '10.96.1.1');
  assert.equal(links.get('MY_WEB_PORT'), 'tcp://10.96.1.1:80');
  assert.equal(links.get('MY_WEB_SERVICE_PORT_HTTP'), '80');
  assert.equal([...links.keys()].filter((key) => key.startsWith('PODS')).length, 0);
  const slice = {
    metadata: { name: 'pods-1', namespace: 'shop', labels: { 'kubernetes.io/service-name': 'pods' } },
    addressType: 'IPv4',
    endpoints: [
      { addresses: ['10.244.1.5'], hostname: 'pods-0', conditions: { ready: true } },
      { addresses: ['10.244.1.6'], conditions: { ready: false } },
    ],
  };
  assert.deepEqual(serviceHosts([service('my-web', '10.96.1.1'), service('pods', 'None')], [slice], 'shop'), [
    '10.96.1.1\tmy-web.shop.svc.cluster.local my-web.shop.svc my-web.shop my-web',
    '10.244.1.5\tpods.shop.svc.cluster.local pods.shop.svc pods.shop pods',
    '10.244.1.5\tpods-0.pods.shop.svc.cluster.local pods-0.pods.shop.svc pods-0.pods.shop pods-0.pods',
  ]);
  assert.deepEqual(serviceHosts([service('my-web', '10.96.1.1')], [], 'other'), [
    '10.96.1.1\tmy-web.shop.svc.cluster.local my-web.shop.svc my-web.shop',
  ]);
});

test('a probe changes its state only at a threshold', () => {
  const state = new ProbeState({ successThreshold: 2, failureThreshold: 3 }, false);
  assert.deepEqual(
    [true, true].map((answer) => state.observe(answer)),
    [null, 'success'],
  );
  assert.deepEqual(
    [false, false, true].map((answer) => state.observe(answer)),
    [null, null, null],
  );
  assert.equal(state.ok, true);
  assert.deepEqual(
    [false, false, false, false].map((answer) => state.observe(answer)),
    [null, null, 'failure', 'failure'],
  );
  assert.equal(state.ok, false);
});

test('a probe is what the last long enough run of answers says', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 4 }),
      fc.integer({ min: 1, max: 4 }),
      fc.boolean(),
      fc.array(fc.boolean()),
      (successThreshold, failureThreshold, initial, answers) => {
        const state = new ProbeState({ successThreshold, failureThreshold }, initial);
        for (const answer of answers) state.observe(answer);
        let want = initial;
        for (let end = 1; end <= answers.length; end += 1) {
          for (const ok of [true, false]) {
            const need = ok ? successThreshold : failureThreshold;
            if (end >= need && answers.slice(end - need, end).every((answer) => answer === ok)) want = ok;
          }
        }
        assert.equal(state.ok, want);
      },
    ),
  );
});

test('restarts wait longer each time, until the container has run for ten minutes', async () => {
  const clock = new FakeClock();
  const backOff = new RestartBackOff(clock);
  const waits = Array.from({ length: 7 }, () => backOff.waitMs(clock.monotonicMs()));
  assert.deepEqual(waits, [0, 10_000, 20_000, 40_000, 80_000, 160_000, 300_000]);
  const startedMs = clock.monotonicMs();
  await clock.advance(600_000);
  assert.equal(backOff.waitMs(startedMs), 0);
});

const source = {
  configMapFiles: (name: string) =>
    Promise.resolve(name === 'c' ? { a: Buffer.from('1'), b: Buffer.from('2') } : undefined),
  secretFiles: (name: string) => Promise.resolve(name === 's' ? { key: Buffer.from('k') } : undefined),
  token: (audience: string | undefined, seconds: number) => Promise.resolve(`token:${audience}:${seconds}`),
};
const projection = { pod: () => pod, facts, node, source };

test('projected volumes', async () => {
  const volume = {
    name: 'all',
    projected: {
      defaultMode: 0o400,
      sources: [
        { serviceAccountToken: { path: 'token', audience: 'api', expirationSeconds: 600 } },
        { configMap: { name: 'c', items: [{ key: 'a', path: 'deep/a', mode: 0o600 }] } },
        { secret: { name: 's' } },
        { downwardAPI: { items: [{ path: 'labels', fieldRef: { fieldPath: 'metadata.labels' } }] } },
      ],
    },
  };
  const files = await projectedFiles(projection, volume);
  const shown = [...files].map(([path, { content, mode }]) => [path, content.toString(), mode]);
  assert.deepEqual(shown, [
    ['token', 'token:api:600', 0o400],
    ['deep/a', '1', 0o600],
    ['key', 'k', 0o400],
    ['labels', 'app="web"\nzone="a"', 0o400],
  ]);
  await assert.rejects(projectedFiles(projection, { name: 'x', configMap: { name: 'none' } }), MissingReference);
  assert.equal((await projectedFiles(projection, { name: 'x', configMap: { name: 'none', optional: true } })).size, 0);
});

test('files of a volume change together, and old ones go', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'guildhall-volume-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const files = (texts: Record<string, string>) =>
    new Map(Object.entries(texts).map(([path, text]) => [path, { content: Buffer.from(text), mode: 0o644 }]));
  assert.equal(await writeAtomically(folder, files({ a: '1', 'd/b': '2' }), null), true);
  assert.equal(await writeAtomically(folder, files({ a: '1', 'd/b': '2' }), null), false);
  assert.equal(readFileSync(join(folder, 'd/b'), 'utf8'), '2');
  assert.equal(await writeAtomically(folder, files({ a: '3' }), 10001), true);
  assert.equal(readFileSync(join(folder, 'a'), 'utf8'), '3');
  assert.equal(statSync(join(folder, 'a')).gid, 10001);
  assert.equal(readdirSync(folder).filter((name) => name.startsWith('..') && name !== '..data').length, 1);
});

test('rights of a process come from container, pod and image, in this order', () => {
  const image = machineImage([], { user: '7:8' });
  const plain = processRights(pod, { name: 'main' }, image);
  assert.deepEqual(
    [plain.uid, plain.gid, plain.noNewPrivileges, plain.readonlyRoot, plain.seccomp],
    [7, 8, false, false, null],
  );
  assert.ok(plain.capabilities.includes('CAP_CHOWN'));
  const guarded = processRights(
    {
      ...pod,
      spec: {
        containers: [],
        securityContext: {
          runAsUser: 10001,
          fsGroup: 20,
          runAsNonRoot: true,
          seccompProfile: { type: 'RuntimeDefault' },
        },
      },
    },
    {
      name: 'main',
      securityContext: {
        capabilities: { drop: ['ALL'], add: ['NET_BIND_SERVICE'] },
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
      },
    },
    image,
  );
  assert.deepEqual([guarded.uid, guarded.gid, guarded.additionalGids], [10001, 8, [20]]);
  assert.deepEqual(guarded.capabilities, ['CAP_NET_BIND_SERVICE']);
  assert.deepEqual([guarded.noNewPrivileges, guarded.readonlyRoot, guarded.seccomp !== null], [true, true, true]);
  const root = { name: 'main', securityContext: { runAsNonRoot: true } };
  assert.throws(() => processRights(pod, root, machineImage()), RefusedContainer);
});

test('the OCI specification carries command, limits and mounts', () => {
  const container: V1Container = {
    name: 'main',
    command: ['run', '$(WHO)'],
    resources: { limits: { cpu: '500m', memory: '64Mi' }, requests: { cpu: '250m' } },
  };
  const image = machineImage([], { entrypoint: ['entry'], command: ['cmd'] });
  const environment = new Map([['WHO', 'me']]);
  assert.deepEqual(commandLine(container, image, environment), ['run', 'me']);
  assert.deepEqual(commandLine({ name: 'main', args: ['x'] }, image, environment), ['entry', 'x']);
  assert.deepEqual(commandLine({ name: 'main' }, image, environment), ['entry', 'cmd']);
  const spec = ociSpec({
    container,
    image,
    environment,
    rights: processRights(pod, container, image),
    mounts: [{ source: '/a', destination: '/b', readonly: true }],
    hostname: 'h',
    networkNamespace: 'n',
    cgroup: '/c',
  }) as { mounts: { destination: string; options: string[] }[]; linux: { resources: object } };
  assert.deepEqual(spec.mounts.at(-1)?.options, ['rbind', 'rprivate', 'ro']);
  assert.deepEqual(spec.linux.resources, {
    devices: [{ allow: false, access: 'rwm' }],
    memory: { limit: 64 * 2 ** 20 },
    cpu: { shares: 256, period: 100_000, quota: 50_000 },
  });
});

test('names of images without tag and digest', () => {
  assert.equal(repositoryOf('ghcr.io/a/b:1.2'), 'ghcr.io/a/b');
  assert.equal(repositoryOf('localhost:5000/a@sha256:00'), 'localhost:5000/a');
  assert.equal(repositoryOf('busybox'), 'busybox');
});

test('phase and conditions of a pod', () => {
  const running = {
    name: 'main',
    image: 'i',
    imageID: 'i',
    ready: true,
    restartCount: 0,
    state: { running: { startedAt: new Date(0) } },
  };
  const ended = (exitCode: number) => ({
    ...running,
    ready: false,
    state: { terminated: { exitCode } },
  });
  const view = {
    pod,
    podIP: '10.244.1.5',
    hostIP: '10.240.0.1',
    startedAt: new Date(0),
    initialized: true,
    finished: false,
    overdue: false,
    init: [],
    main: [running],
    problem: null,
    now: new Date(1000),
  };
  const of = (status: ReturnType<typeof podStatus>, type: string) =>
    status.conditions?.find((one) => one.type === type);
  const first = podStatus(view, []);
  assert.deepEqual([first.phase, of(first, 'Ready')?.status], ['Running', 'True']);
  const later = podStatus(
    { ...view, main: [{ ...running, ready: false }], now: new Date(2000) },
    first.conditions ?? [],
  );
  assert.equal(of(later, 'Ready')?.lastTransitionTime?.getTime(), 2000);
  assert.equal(of(later, 'Initialized')?.lastTransitionTime?.getTime(), 1000);
  assert.match(of(later, 'Ready')?.message ?? '', /main/);
  assert.equal(podStatus({ ...view, main: [{ ...running, state: { waiting: {} } }] }, []).phase, 'Pending');
  assert.equal(podStatus({ ...view, finished: true, main: [ended(0)] }, []).phase, 'Succeeded');
  assert.equal(podStatus({ ...view, finished: true, main: [ended(0), ended(3)] }, []).phase, 'Failed');
  assert.equal(podStatus({ ...view, finished: true, overdue: true, main: [ended(0)] }, []).phase, 'Failed');
  const gated = { ...pod, spec: { containers: [], readinessGates: [{ conditionType: 'x/y' }] } };
  assert.equal(of(podStatus({ ...view, pod: gated }, []), 'Ready')?.status, 'False');
});
