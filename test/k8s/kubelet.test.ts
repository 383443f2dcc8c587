import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { CoreV1Api, type V1Pod } from '@kubernetes/client-node';
import { eventually } from '@guildhall/common/testing';
import { stringify } from 'yaml';
import { type Bench, startBench } from './bench.ts';
import { addImages, MACHINE_IMAGE } from './images.ts';

const logs = mkdtempSync(join(tmpdir(), 'guildhall-k8s-kubelet-'));
const namespace = 'default';
let bench: Bench;
let core: CoreV1Api;

before(async () => {
  bench = await startBench({ logs, say: (line) => void process.stdout.write(`  ${line}\n`) });
  await addImages(bench.images);
  core = bench.cluster.kubeConfig().makeApiClient(CoreV1Api);
  await eventually(
    () => core.readNamespacedServiceAccount({ namespace, name: 'default' }).catch(() => null),
    'account',
  );
});
after(async () => {
  await bench?.stop();
  rmSync(logs, { recursive: true, force: true });
});

async function apply(...objects: object[]): Promise<void> {
  const input = objects.map((object) => stringify(object)).join('---\n');
  const { code, stderr } = await bench.cluster.kubectl(['apply', '-f', '-'], { input });
  assert.equal(code, 0, stderr);
}

async function kubectl(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await bench.cluster.kubectl(args);
  assert.equal(code, 0, stderr);
  return stdout.trim();
}

function script(text: string): string[] {
  return ['sh', '-c', text];
}

/** A pod of one container that runs a shell script. */
function pod(name: string, text: string, container: object = {}, spec: object = {}): object {
  return {
    apiVersion: 'v1',
    kind: 'Pod',
    metadata: { name, labels: { app: name } },
    spec: {
      terminationGracePeriodSeconds: 2,
      containers: [{ name: 'main', image: MACHINE_IMAGE, command: script(text), ...container }],
      ...spec,
    },
  };
}

async function read(name: string): Promise<V1Pod> {
  return await core.readNamespacedPod({ namespace, name });
}

async function ended(name: string): Promise<V1Pod> {
  return await eventually(async () => {
    const found = await read(name);
    return ['Succeeded', 'Failed'].includes(found.status?.phase ?? '') ? found : null;
  }, `the end of ${name}`);
}

async function ready(name: string): Promise<V1Pod> {
  return await eventually(async () => {
    const found = await read(name);
    return found.status?.conditions?.some(({ type, status }) => type === 'Ready' && status === 'True') ? found : null;
  }, `${name} ready`);
}

test('a container runs with the rights that its security context leaves it', async () => {
  const securityContext = {
    runAsUser: 10_001,
    runAsGroup: 10_002,
    runAsNonRoot: true,
    readOnlyRootFilesystem: true,
    allowPrivilegeEscalation: false,
    capabilities: { drop: ['ALL'] },
    seccompProfile: { type: 'RuntimeDefault' },
  };
  const text = [
    'id -u; id -g; id -G',
    'grep -E "^(CapBnd|NoNewPrivs|Seccomp):" /proc/self/status',
    'touch /file 2>&1; touch /tmp/file && echo tmp',
    'unshare --user true 2>&1; cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max',
  ].join('\n');
  const resources = { limits: { memory: '64Mi' } };
  const volumeMounts = [{ name: 'tmp', mountPath: '/tmp' }];
  const spec = {
    restartPolicy: 'Never',
    securityContext: { fsGroup: 10_003 },
    volumes: [{ name: 'tmp', emptyDir: { sizeLimit: '8Mi' } }],
  };
  await apply(pod('rights', text, { securityContext, resources, volumeMounts }, spec));
  assert.equal((await ended('rights')).status?.phase, 'Succeeded');
  const said = await kubectl('logs', 'rights');
  for (const line of [/^10001\n10002\n10002 10003$/m, /CapBnd:\s+0{16}$/m, /NoNewPrivs:\s+1$/m, /Seccomp:\s+2$/m]) {
    assert.match(said, line);
  }
  assert.match(said, /Read-only file system/);
  assert.match(said, /^tmp$/m);
  assert.match(said, /unshare: unshare failed: Operation not permitted/);
  assert.match(said, new RegExp(`^${64 * 2 ** 20}$`, 'm'));
});

test('environment, files of ConfigMaps and Secrets, the API through its Service', async () => {
  await apply(
    { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'settings' }, data: { color: 'red' } },
    { apiVersion: 'v1', kind: 'Secret', metadata: { name: 'keys' }, stringData: { password: 'geheim' } },
  );
  const text = [
    'echo $ADDRESS $COLOR $NODE; cat /secret/password; echo',
    'T=/var/run/secrets/kubernetes.io/serviceaccount',
    'curl -s --cacert $T/ca.crt -H "authorization: Bearer $(cat $T/token)" https://kubernetes.default.svc/api/v1/namespaces/$(cat $T/namespace)/pods | grep -o "system:serviceaccount:default:default"',
    'until grep -q blue /settings/color; do sleep 0.1; done; echo changed',
  ].join('\n');
  const env = [
    { name: 'IP', valueFrom: { fieldRef: { fieldPath: 'status.podIP' } } },
    { name: 'NODE', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } },
    { name: 'ADDRESS', value: '$(IP):80' },
    { name: 'COLOR', valueFrom: { configMapKeyRef: { name: 'settings', key: 'color' } } },
  ];
  const volumeMounts = [
    { name: 'keys', mountPath: '/secret' },
    { name: 'settings', mountPath: '/settings' },
  ];
  const volumes = [
    { name: 'keys', secret: { secretName: 'keys' } },
    { name: 'settings', configMap: { name: 'settings' } },
  ];
  await apply(pod('files', text, { env, volumeMounts }, { restartPolicy: 'Never', volumes }));
  await ready('files');
  await apply({ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: 'settings' }, data: { color: 'blue' } });
  const { status, spec } = await ended('files');
  const said = await kubectl('logs', 'files');
  assert.equal(status?.phase, 'Succeeded', said);
  assert.match(said, new RegExp(`^${status.podIP}:80 red ${spec?.nodeName}\ngeheim\n`));
  assert.match(said, /system:serviceaccount:default:default\nchanged$/);
});

test('init containers come first, and a failing one is tried again', async () => {
  const share = [{ name: 'share', mountPath: '/share' }];
  const initContainers = [
    { name: 'once', image: MACHINE_IMAGE, command: script('echo first >> /share/log'), volumeMounts: share },
    {
      name: 'twice',
      image: MACHINE_IMAGE,
      command: script('test -e /share/tried && exit 0; touch /share/tried; exit 3'),
      volumeMounts: share,
    },
    {
      name: 'beside',
      image: MACHINE_IMAGE,
      restartPolicy: 'Always',
      command: script('echo beside >> /share/log; sleep 1000'),
      startupProbe: { exec: { command: ['grep', 'beside', '/share/log'] }, periodSeconds: 1 },
      volumeMounts: share,
    },
  ];
  const volumes = [{ name: 'share', emptyDir: { medium: 'Memory' } }];
  await apply(
    pod('steps', 'cat /share/log', { volumeMounts: share }, { restartPolicy: 'OnFailure', initContainers, volumes }),
  );
  const { status } = await ended('steps');
  assert.equal(status?.phase, 'Succeeded');
  assert.equal(await kubectl('logs', 'steps', '-c', 'main'), 'first\nbeside');
  assert.deepEqual(
    status.initContainerStatuses?.map(({ restartCount }) => restartCount),
    [0, 1, 0],
  );
});

test('a Service reaches the pods whose readiness probe succeeds, by address and by name', async () => {
  const web = (name: string, delay: string): object => ({
    ...pod(
      name,
      `mkdir -p /tmp/web; cd /tmp/web; echo ${name} > index.html; ${delay} touch ready; exec python3 -m http.server 8000`,
      {
        ports: [{ name: 'http', containerPort: 8000 }],
        readinessProbe: { httpGet: { path: '/ready', port: 'http' }, periodSeconds: 1 },
      },
    ),
    metadata: { name, labels: { app: 'web' } },
  });
  const service = {
    apiVersion: 'v1',
    kind: 'Service',
    metadata: { name: 'web' },
    spec: { selector: { app: 'web' }, ports: [{ port: 80, targetPort: 'http' }] },
  };
  await apply(web('web-1', ''), web('web-2', 'false &&'), service);
  await ready('web-1');
  const { spec } = await core.readNamespacedService({ namespace, name: 'web' });
  const ask = async (): Promise<string> => (await fetch(`http://${spec?.clusterIP}/`)).text();
  await eventually(() => ask().catch(() => null), 'an answer of the Service');
  for (let time = 0; time < 8; time += 1) assert.equal(await ask(), 'web-1\n');
  const probe = 'curl -s --retry 20 --retry-all-errors --retry-delay 1 http://web.default.svc.cluster.local/';
  await apply(pod('client', probe, {}, { restartPolicy: 'Never' }));
  await ended('client');
  assert.equal(await kubectl('logs', 'client'), 'web-1');
});

test('a failed liveness probe restarts a container; preStop, SIGTERM and SIGKILL come in this order', async () => {
  const text = [
    'if [ -e /share/alive ]; then trap "echo got TERM >> /share/log" TERM; echo second; while true; do sleep 0.1; done; fi',
    'touch /share/alive /tmp/alive; trap "echo TERM; exit 0" TERM; echo first; while true; do sleep 0.1; done',
  ].join('\n');
  const share = [{ name: 'share', mountPath: '/share' }];
  const container = {
    volumeMounts: share,
    startupProbe: { exec: { command: ['test', '-e', '/share/alive'] }, periodSeconds: 1, failureThreshold: 30 },
    livenessProbe: { exec: { command: script('! test -e /tmp/alive') }, periodSeconds: 1, failureThreshold: 2 },
    lifecycle: { preStop: { exec: { command: script('echo preStop >> /share/log') } } },
  };
  const disk = { path: join(logs, 'share'), type: 'DirectoryOrCreate' };
  await apply(pod('lively', text, container, { volumes: [{ name: 'share', hostPath: disk }] }));
  await eventually(async () => (await read('lively')).status?.containerStatuses?.[0]?.restartCount === 1, 'a restart');
  assert.equal(await kubectl('logs', 'lively', '--previous'), 'first\nTERM');
  await eventually(async () => (await kubectl('logs', 'lively').catch(() => '')) === 'second', 'the second start');
  await kubectl('delete', 'pod', 'lively');
  // It ignores SIGTERM, so that only SIGKILL after the grace period ended it.
  assert.equal(readFileSync(join(logs, 'share', 'log'), 'utf8'), 'preStop\npreStop\ngot TERM\n');
});

test('a container that fails waits longer and longer, and says its last words', async () => {
  const terminationMessagePolicy = 'FallbackToLogsOnError';
  await apply(pod('failing', 'echo out of luck; exit 7', { terminationMessagePolicy }));
  const status = await eventually(async () => {
    const [main] = (await read('failing')).status?.containerStatuses ?? [];
    return main?.state?.waiting?.reason === 'CrashLoopBackOff' ? main : null;
  }, 'a crash loop');
  assert.equal(status.lastState?.terminated?.exitCode, 7);
  assert.equal(status.lastState.terminated.message, 'out of luck\n');
  await apply(pod('unknown', 'true', { image: 'example.test/none:1' }));
  await eventually(async () => {
    return (await read('unknown')).status?.containerStatuses?.[0]?.state?.waiting?.reason === 'ErrImagePull';
  }, 'an image that is not there');
});

test('a pod that takes too long is ended', async () => {
  await apply(pod('overdue', 'sleep 1000', {}, { restartPolicy: 'Never', activeDeadlineSeconds: 2 }));
  const { status } = await ended('overdue');
  assert.deepEqual([status?.phase, status?.reason], ['Failed', 'DeadlineExceeded']);
  await kubectl('delete', 'pod', 'overdue');
});

test('a container whose probes hang is restarted, and ends when its pod is deleted', async () => {
  const livenessProbe = {
    exec: { command: ['sleep', '1000'] },
    periodSeconds: 1,
    timeoutSeconds: 1,
    failureThreshold: 2,
  };
  await apply(pod('hanging', 'sleep 1000', { livenessProbe }, { terminationGracePeriodSeconds: 1 }));
  await eventually(async () => {
    return ((await read('hanging')).status?.containerStatuses?.[0]?.restartCount ?? 0) > 0;
  }, 'a restart');
  await kubectl('delete', 'pod', 'hanging', '--timeout=60s');
});

test('a Job ends, and what it wrote to a claimed volume stays', async () => {
  const claim = {
    apiVersion: 'v1',
    kind: 'PersistentVolumeClaim',
    metadata: { name: 'disk' },
    spec: { accessModes: ['ReadWriteOnce'], resources: { requests: { storage: '1Gi' } } },
  };
  const volumes = [{ name: 'disk', persistentVolumeClaim: { claimName: 'disk' } }];
  const volumeMounts = [{ name: 'disk', mountPath: '/disk' }];
  const container = { name: 'main', image: MACHINE_IMAGE, command: script('echo kept > /disk/file'), volumeMounts };
  const job = {
    apiVersion: 'batch/v1',
    kind: 'Job',
    metadata: { name: 'writer' },
    spec: { template: { spec: { restartPolicy: 'Never', containers: [container], volumes } } },
  };
  await apply(claim, job);
  await kubectl('wait', 'job/writer', '--for=condition=Complete', '--timeout=60s');
  await apply(pod('reader', 'cat /disk/file', { volumeMounts }, { restartPolicy: 'Never', volumes }));
  await ended('reader');
  assert.equal(await kubectl('logs', 'reader'), 'kept');
});

test('a drained node is emptied as far as a PodDisruptionBudget allows; a lost one has its pods replaced', async () => {
  const deployment = {
    apiVersion: 'apps/v1',
    kind: 'Deployment',
    metadata: { name: 'spread' },
    spec: {
      replicas: 2,
      selector: { matchLabels: { app: 'spread' } },
      template: {
        metadata: { labels: { app: 'spread' } },
        spec: {
          terminationGracePeriodSeconds: 1,
          containers: [{ name: 'main', image: MACHINE_IMAGE, command: ['sleep', '1000'] }],
          topologySpreadConstraints: [
            {
              maxSkew: 1,
              topologyKey: 'kubernetes.io/hostname',
              whenUnsatisfiable: 'ScheduleAnyway',
              labelSelector: { matchLabels: { app: 'spread' } },
            },
          ],
        },
      },
    },
  };
  const budget = {
    apiVersion: 'policy/v1',
    kind: 'PodDisruptionBudget',
    metadata: { name: 'spread' },
    spec: { minAvailable: 2, selector: { matchLabels: { app: 'spread' } } },
  };
  await apply(deployment, budget);
  await kubectl('rollout', 'status', 'deployment/spread', '--timeout=60s');
  await eventually(
    async () => (await kubectl('get', 'pdb', 'spread', '-o', 'jsonpath={.status.currentHealthy}')) === '2',
    'a budget',
  );
  const drain = [
    'drain',
    'proc-1',
    '--ignore-daemonsets',
    '--delete-emptydir-data',
    '--force',
    '--pod-selector=app=spread',
  ];
  const refused = await bench.cluster.kubectl([...drain, '--timeout=3s']);
  assert.notEqual(refused.code, 0);
  assert.match(refused.stderr, /violate the pod's disruption budget/);
  await kubectl('delete', 'pdb', 'spread');
  await kubectl(...drain, '--timeout=60s');
  await kubectl('rollout', 'status', 'deployment/spread', '--timeout=60s');
  const nodes = async (): Promise<string> =>
    await kubectl('get', 'pods', '-l', 'app=spread', '-o', 'jsonpath={.items[*].spec.nodeName}');
  assert.equal(await nodes(), 'proc-0 proc-0');
  await kubectl('uncordon', 'proc-1');
  await bench.kubelet.loseNode('proc-0');
  await eventually(async () => {
    const { items } = await core.listNamespacedPod({ namespace, labelSelector: 'app=spread' });
    const good = items.filter(({ spec, status }) => spec?.nodeName === 'proc-1' && status?.phase === 'Running');
    return good.length === 2;
  }, 'replacements on the other node');
  await bench.kubelet.returnNode('proc-0');
  await kubectl('wait', 'node/proc-0', '--for=condition=Ready', '--timeout=60s');
});
