import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Container, object, ofKind, type PodSpec, workload } from './manifests.ts';
import { render } from './render.ts';

const COMMIT = 'a'.repeat(40);

async function podOf(values: Record<string, unknown>, component: string, group?: string): Promise<PodSpec> {
  return workload(await render(values), component, group).pod;
}

function pullOf({ initContainers = [] }: PodSpec): Container {
  const found = initContainers.find(({ name }) => name === 'pull');
  assert.ok(found !== undefined);
  return found;
}

test('each process fetches the part of the checkpoint that it reads', async () => {
  const values = {
    model: { source: `hf://org/name@${COMMIT}` },
    expertGroups: [
      { name: 'a', shard: '1/2' },
      { name: 'b', shard: '2/2' },
      { name: 'c', fromPeers: { enabled: true } },
    ],
  };
  const args = async (component: string, group?: string): Promise<string[]> =>
    pullOf(await podOf(values, component, group)).args ?? [];
  const gateway = await args('gateway');
  assert.deepEqual(gateway.slice(0, 3), ['pull', `hf://org/name@${COMMIT}`, '--dir']);
  assert.deepEqual(gateway.slice(4), ['--metadata-only']);
  assert.deepEqual((await args('router')).slice(4), ['--dense-only']);
  assert.deepEqual((await args('expert', 'a')).slice(4), ['--shard', '1/2']);
  assert.deepEqual((await args('expert', 'b')).slice(4), ['--shard', '2/2']);
  assert.equal((await podOf(values, 'expert', 'c')).initContainers, undefined);
  assert.equal((await podOf(values, 'controller')).initContainers, undefined);
  const local = { ...values, router: { config: { experts: 'local' } }, expertGroups: [] };
  assert.deepEqual(pullOf(await podOf(local, 'router')).args?.slice(4), []);
});

test('only the init container may write what it fetched', async () => {
  const pod = await podOf({ model: { source: `hf://org/name@${COMMIT}` } }, 'router');
  const mount = ({ volumeMounts = [] }: Container): boolean | undefined =>
    volumeMounts.find(({ mountPath }) => mountPath === '/models')?.readOnly;
  assert.equal(mount(pullOf(pod)), undefined);
  assert.equal(mount(pod.containers[0] as Container), true);
});

test('a bucket is pinned by its checksum', async () => {
  const sha256 = 'b'.repeat(64);
  const pod = await podOf({ model: { source: 's3://bucket/prefix', sha256, names: ['m'] } }, 'router');
  const args = pullOf(pod).args ?? [];
  assert.equal(args[args.indexOf('--sha256') + 1], sha256);
});

test('GPUs come by the device plugin', async () => {
  const values = {
    gpu: { mode: 'devicePlugin', resourceName: 'nvidia.com/mig-3g.40gb', runtimeClassName: 'nvidia' },
    experts: { defaults: { gpus: 2 } },
  };
  const expert = await podOf(values, 'expert');
  assert.equal(expert.containers[0]?.resources?.limits?.['nvidia.com/mig-3g.40gb'], 2);
  assert.equal(expert.runtimeClassName, 'nvidia');
  assert.ok(JSON.stringify(expert.tolerations).includes('nvidia.com/gpu'));
  const gateway = await podOf(values, 'gateway');
  assert.deepEqual([gateway.runtimeClassName, gateway.tolerations], [undefined, undefined]);
});

test('GPUs come by claims', async () => {
  const objects = await render({
    gpu: { mode: 'dra', deviceClassName: 'gpu.example.com', selectors: ['true'] },
    experts: { defaults: { gpus: 3 } },
  });
  const { pod } = workload(objects, 'expert');
  assert.deepEqual(pod.containers[0]?.resources?.claims, [{ name: 'gpu' }]);
  const [claim] = pod.resourceClaims ?? [];
  const template = object(objects, 'ResourceClaimTemplate', claim?.resourceClaimTemplateName ?? '');
  assert.deepEqual(((template.spec ?? {})['spec'] as { devices: unknown }).devices, {
    requests: [
      {
        name: 'gpu',
        exactly: {
          deviceClassName: 'gpu.example.com',
          allocationMode: 'ExactCount',
          count: 3,
          selectors: [{ cel: { expression: 'true' } }],
        },
      },
    ],
  });
  assert.equal(ofKind(objects, 'ResourceClaimTemplate').length, 1, 'routers ask for none');
});

test('without GPUs nothing asks for one', async () => {
  const text = JSON.stringify(await render({ router: { gpus: 1 }, experts: { defaults: { gpus: 2 } } }));
  assert.ok(!text.includes('nvidia') && !text.includes('ResourceClaim'));
});

test('replicas of a group keep away from each other, and groups do not', async () => {
  const objects = await render({ pods: { antiAffinity: 'required' }, expertGroups: [{ name: 'a' }, { name: 'b' }] });
  const { pod, selector } = workload(objects, 'expert', 'b');
  assert.deepEqual(pod.affinity?.podAntiAffinity, {
    requiredDuringSchedulingIgnoredDuringExecution: [
      { topologyKey: 'kubernetes.io/hostname', labelSelector: { matchLabels: selector } },
    ],
  });
  assert.equal(selector?.['guildhall.dev/group'], 'b');
});

test('threads follow a CPU limit, unless they are given', async () => {
  const threads = async (router: Record<string, unknown>): Promise<unknown> =>
    (await podOf({ router }, 'router')).containers[0]?.env?.find(({ name }) => name === 'GUILDHALL_THREADS')?.valueFrom;
  assert.deepEqual(await threads({ resources: { limits: { cpu: 4 } } }), {
    resourceFieldRef: { resource: 'limits.cpu' },
  });
  assert.equal(await threads({}), undefined);
  assert.equal(await threads({ resources: { limits: { cpu: 4 } }, config: { threads: 3 } }), undefined);
});

test('an image comes from the mirror, and by its digest', async () => {
  const digest = `sha256:${'c'.repeat(64)}`;
  const objects = await render({
    global: { imageRegistry: 'mirror.example:5000' },
    image: { digest },
    registry: { bundled: { image: { tag: '9.1.2' } } },
  });
  const imageOf = (component: string): string | undefined => workload(objects, component).pod.containers[0]?.image;
  assert.equal(imageOf('router'), `mirror.example:5000/guildhall/guildhall@${digest}`);
  assert.equal(imageOf('test'), `mirror.example:5000/guildhall/guildhall@${digest}`);
  assert.equal(imageOf('valkey'), 'mirror.example:5000/valkey/valkey:9.1.2');
});

test('secrets are in no ConfigMap and in no argument', async () => {
  const objects = await render({ batch: { enabled: true } });
  const secrets = ofKind(objects, 'Secret').flatMap(({ data = {} }) =>
    Object.values(data).map((value) => Buffer.from(value, 'base64').toString().split(' ')[0] as string),
  );
  assert.equal(secrets.length, 4, 'token, keys twice, password');
  const rest = JSON.stringify(objects.filter(({ kind }) => kind !== 'Secret'));
  for (const secret of secrets) assert.ok(!rest.includes(secret));
});

test('the controller may scale what is of this release, and nothing else', async () => {
  const objects = await render({ expertGroups: [{ name: 'a' }, { name: 'b' }] });
  assert.deepEqual(
    objects.filter(({ kind }) => kind.startsWith('ClusterRole')),
    [],
  );
  const { rules } = object(objects, 'Role', 'guildhall-controller') as unknown as {
    rules: { apiGroups: string[]; resources: string[]; resourceNames?: string[]; verbs: string[] }[];
  };
  const of = (resource: string): unknown =>
    rules
      .filter(({ resources }) => resources.includes(resource))
      .map(({ resourceNames, verbs }) => [resourceNames, verbs]);
  assert.deepEqual(of('deployments/scale'), [
    [
      ['guildhall-router', 'guildhall-expert-a', 'guildhall-expert-b'],
      ['get', 'patch', 'update'],
    ],
  ]);
  assert.deepEqual(of('leases'), [
    [undefined, ['create']],
    [['guildhall-controller'], ['get', 'update']],
  ]);
  assert.deepEqual(of('pods'), [[undefined, ['list', 'watch', 'patch']]]);
  assert.deepEqual(of('secrets'), []);
  const verbs = new Set(rules.flatMap((rule) => rule.verbs));
  assert.ok(!verbs.has('*') && !verbs.has('delete'));
});

test('mutual TLS: one name in every certificate, which every process checks', async () => {
  const objects = await render({ tls: { enabled: true } });
  const certificate = object(objects, 'Certificate', 'guildhall-tls').spec as { dnsNames: string[]; usages: string[] };
  for (const component of ['gateway', 'router', 'expert', 'controller']) {
    const env = workload(objects, component).pod.containers[0]?.env ?? [];
    const name = env.find((one) => one.name === 'GUILDHALL_TLS_SERVER_NAME')?.value ?? '';
    assert.ok(certificate.dnsNames.includes(name), component);
    assert.match(env.find((one) => one.name === 'GUILDHALL_REDIS')?.value ?? '', /^rediss:\/\/guildhall-valkey:6379$/);
  }
  assert.ok(certificate.dnsNames.includes('guildhall-valkey'));
  assert.deepEqual(certificate.usages.slice(-2), ['server auth', 'client auth']);
  assert.match(
    object(objects, 'ConfigMap', 'guildhall-valkey').data?.['valkey.conf'] ?? '',
    /^port 0\ntls-port 6379\n/,
  );
});

test('files of batches outlive their pods and the release', async () => {
  const objects = await render({ batch: { enabled: true } });
  const { object: deployment, pod } = workload(objects, 'batch');
  assert.deepEqual(deployment.spec?.['strategy'], { type: 'Recreate' });
  const claim = object(objects, 'PersistentVolumeClaim', 'guildhall-batch');
  assert.equal(claim.metadata.annotations?.['helm.sh/resource-policy'], 'keep');
  assert.ok(JSON.stringify(pod.volumes).includes('"claimName":"guildhall-batch"'));
  const own = await render({ batch: { enabled: true, storage: { existingClaim: 'mine' } } });
  assert.equal(ofKind(own, 'PersistentVolumeClaim').length, 0);
  const many = await render({ batch: { enabled: true, storage: { accessMode: 'ReadWriteMany' } } });
  assert.equal(((workload(many, 'batch').object.spec ?? {})['strategy'] as { type: string }).type, 'RollingUpdate');
});
