/** Values that every rule is held against. */
export interface Case {
  name: string;
  values: Record<string, unknown>;
  profiles?: string[];
  /** Objects that values name and that are not the chart's. */
  outside?: string[];
  /** Volume types that the Pod Security Standard `restricted` does not allow and the values ask for. */
  unrestricted?: string[];
}

const COMMIT = '0123456789abcdef0123456789abcdef01234567';
const HF = { source: `hf://org/name@${COMMIT}` };
const DIGEST = `sha256:${'0'.repeat(64)}`;

/** Profiles: values files of the chart. */
export const PROFILES = ['values-laptop.yaml', 'values-qwen3.5-35b-a3b.yaml', 'values-qwen3.5-397b-a17b.yaml'];

const MODELS: Case[] = [
  { name: 'a claim', values: { model: { source: 'pvc://weights', path: 'qwen', names: ['q'] } }, outside: ['weights'] },
  {
    name: 'a host path',
    values: { model: { source: 'hostpath:///srv/model', names: ['q'] } },
    unrestricted: ['hostPath'],
  },
  { name: 'an image', values: { model: { source: `image://r/m@${DIGEST}`, names: ['q'] } }, unrestricted: ['image'] },
  {
    name: 'a hub',
    values: { model: { ...HF, pull: { existingSecret: 'hub', endpoint: 'https://mirror' } } },
    outside: ['hub'],
  },
  {
    name: 'a bucket into a claim',
    values: {
      model: {
        source: 's3://bucket/prefix',
        sha256: '0'.repeat(64),
        names: ['q'],
        store: { type: 'pvc', claimName: 'store' },
        weightsCache: { type: 'emptyDir' },
        weights: 'q8',
      },
    },
    outside: ['store'],
  },
  {
    name: 'a hub in shards',
    values: {
      model: {
        ...HF,
        store: { type: 'hostPath', hostPath: '/var/lib/models' },
        weightsCache: { type: 'hostPath', hostPath: '/var/lib/weights' },
      },
      expertGroups: ['1/4', '2/4', '3/4', '4/4'].map((shard, index) => ({ name: `s${index}`, shard, replicas: 2 })),
    },
    unrestricted: ['hostPath'],
  },
  {
    name: 'workers without files',
    values: {
      expertGroups: [
        { name: 'files' },
        { name: 'peers', fromPeers: { enabled: true, size: '10Gi', storageClassName: 'fast' } },
      ],
    },
  },
  { name: 'experts in the router', values: { router: { config: { experts: 'local' } }, expertGroups: [] } },
  {
    name: 'other numerics',
    values: { model: { weights: 'fp8', kvDtype: 'fp8', combine: 'partial', bf16Kernels: 'auto', names: ['a', 'b'] } },
  },
];

const REGISTRIES: Case[] = [
  { name: 'a Redis by URL', values: { registry: { mode: 'external', external: { url: 'redis://redis.data:6380' } } } },
  {
    name: 'a Redis from a Secret with TLS',
    values: {
      registry: {
        mode: 'external',
        external: {
          existingSecret: 'redis',
          usernameKey: 'user',
          passwordKey: 'password',
          ca: { existingSecret: 'redis-ca' },
          cidrs: ['10.0.0.0/8'],
        },
      },
    },
    outside: ['redis', 'redis-ca'],
  },
  {
    name: 'Sentinels',
    values: {
      registry: {
        mode: 'external',
        external: {
          url: 'rediss-sentinel://a:26379,b:26379/main',
          existingSecret: 'redis',
          passwordKey: 'password',
          sentinelPasswordKey: 'sentinel',
          ports: [6379, 26379],
        },
      },
    },
    outside: ['redis'],
  },
  {
    name: 'a Redis Cluster',
    values: { registry: { mode: 'external', external: { url: 'redis-cluster://a:7000,b:7001' } } },
  },
  {
    name: 'a Valkey with a disk',
    values: {
      registry: {
        bundled: {
          persistence: { enabled: true, size: '2Gi', storageClassName: 'fast' },
          existingSecret: 'mine',
          extraConfig: 'hz 20',
        },
      },
    },
    outside: ['mine'],
  },
];

const SCALERS: Case[] = [
  {
    name: 'HPAs',
    values: { gateway: { autoscaling: { type: 'hpa' } }, router: { autoscaling: { type: 'hpa', min: 3, max: 5 } } },
  },
  {
    name: 'KEDA',
    values: {
      gateway: {
        autoscaling: {
          type: 'keda',
          min: 0,
          triggers: [
            {
              type: 'cron',
              metadata: { start: '0 8 * * *', end: '0 20 * * *', timezone: 'UTC', desiredReplicas: '2' },
            },
          ],
        },
      },
    },
  },
  {
    name: 'the autoscaler',
    values: {
      autoscaler: {
        mode: 'active',
        gpuBudget: 8,
        slo: { ttftP95Ms: 500 },
        scaleToZero: { enabled: true, idleMs: 60000 },
      },
      gateway: { config: { holdMs: 300_000 } },
      expertGroups: [
        { name: 'a', autoscaler: { min: 2, max: 6, redundancy: 2 } },
        { name: 'b', autoscaler: { enabled: false } },
      ],
    },
  },
  { name: 'advice only', values: { autoscaler: { mode: 'recommend' }, router: { autoscaling: { type: 'hpa' } } } },
  { name: 'no spare machines', values: { experts: { noSpareMachines: true } } },
  {
    name: 'single pods with budgets',
    values: {
      pods: { pdb: { mode: 'always' } },
      gateway: { replicas: 1 },
      router: { replicas: 1 },
      expertGroups: [{ name: 'a' }],
      controller: { replicas: 1 },
    },
  },
];

const MACHINES: Case[] = [
  {
    name: 'GPUs by device plugin',
    values: {
      gpu: { mode: 'devicePlugin', runtimeClassName: 'nvidia' },
      router: { gpus: 1 },
      experts: { defaults: { gpus: 2 } },
    },
  },
  {
    name: 'GPUs by claims',
    values: {
      gpu: { mode: 'dra', selectors: ['device.driver == "gpu.nvidia.com"'] },
      router: { gpus: 1 },
      experts: { defaults: { gpus: 2 } },
    },
  },
  {
    name: 'places',
    values: {
      ipFamily: 'IPv6',
      pods: {
        nodeSelector: { pool: 'a' },
        tolerations: [{ operator: 'Exists' }],
        priorityClassName: 'high',
        antiAffinity: 'required',
      },
      experts: {
        defaults: {
          failureDomain: 'zone',
          priorityClassName: 'low',
          resources: { limits: { cpu: 4, memory: '64Gi' } },
        },
      },
      router: { kvDisk: { enabled: true, storageClassName: 'fast' }, resources: { limits: { cpu: '1500m' } } },
      global: { imageRegistry: 'mirror.example:5000', imagePullSecrets: [{ name: 'pull' }] },
      image: { digest: DIGEST },
    },
    outside: ['pull'],
  },
  { name: 'a folder of the pod for pages', values: { router: { kvDisk: { enabled: true } } } },
];

const ACCESS: Case[] = [
  { name: 'TLS by cert-manager', values: { tls: { enabled: true } }, outside: ['guildhall-tls'] },
  {
    name: 'TLS by an issuer of yours',
    values: { tls: { enabled: true, certManager: { issuerRef: { name: 'corp', kind: 'ClusterIssuer' } } } },
    outside: ['guildhall-tls'],
  },
  {
    name: 'TLS from a Secret',
    values: { tls: { enabled: true, existingSecret: 'certs', serverName: 'guildhall.internal' } },
    outside: ['certs'],
  },
  {
    name: 'an Ingress and HTTPS',
    values: {
      gateway: {
        https: { existingSecret: 'web' },
        ingress: {
          enabled: true,
          className: 'nginx',
          hosts: ['api.example'],
          tls: [{ hosts: ['api.example'], secretName: 'web' }],
        },
      },
    },
    outside: ['web'],
  },
  {
    name: 'an HTTPRoute',
    values: { gateway: { httpRoute: { enabled: true, parentRefs: [{ name: 'edge' }], hostnames: ['api.example'] } } },
  },
  {
    name: 'an InferencePool',
    values: {
      inferencePool: { enabled: true, endpointPicker: { name: 'epp' } },
      gateway: { httpRoute: { enabled: true, parentRefs: [{ name: 'edge' }] } },
    },
  },
  {
    name: 'a load balancer',
    values: {
      gateway: {
        service: {
          type: 'LoadBalancer',
          nodePort: 30080,
          annotations: { a: 'b' },
          loadBalancerSourceRanges: ['10.0.0.0/8'],
        },
      },
    },
  },
  { name: 'no keys', values: { auth: { mode: 'none' }, networkPolicy: { enabled: false } } },
  {
    name: 'secrets of yours',
    values: { auth: { existingSecret: 'keys' }, clusterToken: { existingSecret: 'token' } },
    outside: ['keys', 'token'],
  },
  {
    name: 'narrow networks',
    values: {
      networkPolicy: {
        apiFrom: [{ namespaceSelector: { matchLabels: { team: 'a' } } }],
        dnsTo: [{ ipBlock: { cidr: '10.96.0.10/32' } }],
        apiServer: { cidrs: ['10.96.0.1/32'], ports: [443] },
        tracingTo: [{ namespaceSelector: {} }],
      },
      tracing: { endpoint: 'http://otel.observability:4317', ratio: 0.1 },
    },
  },
];

const REST: Case[] = [
  { name: 'nothing', values: {} },
  {
    name: 'monitoring',
    values: {
      metrics: { serviceMonitor: { enabled: true, labels: { release: 'prometheus' } } },
      alerts: { enabled: true, slo: { ttftSeconds: 0.5 } },
      dashboards: { enabled: true },
    },
  },
  {
    name: 'batches and no tests',
    values: {
      batch: { enabled: true, replicas: 2, storage: { accessMode: 'ReadWriteMany', storageClassName: 'shared' } },
      tests: { enabled: false },
    },
  },
  {
    name: 'everything further',
    values: {
      commonLabels: { team: 'a' },
      commonAnnotations: { 'example.com/owner': 'b' },
      fullnameOverride: 'moe',
      pods: {
        podLabels: { x: 'y' },
        podAnnotations: { p: 'q' },
        extraEnv: [{ name: 'HTTPS_PROXY', value: 'http://proxy' }],
        extraVolumes: [{ name: 'more', emptyDir: {} }],
        extraVolumeMounts: [{ name: 'more', mountPath: '/more' }],
      },
      extraObjects: [
        { apiVersion: 'v1', kind: 'ConfigMap', metadata: { name: '{{ .Release.Name }}-more' }, data: { a: 'b' } },
      ],
    },
  },
  {
    name: 'options of every service',
    values: {
      gateway: { config: { maxInFlight: 64, drainMs: 5000, logLevel: 'debug' } },
      router: {
        config: {
          kvMemory: '1GiB',
          numPages: 128,
          prefixCache: 'fast',
          tenantWeights: ['a=2'],
          drainMs: 60000,
          hedgeShare: 0.05,
        },
      },
      experts: { defaults: { config: { weightMemoryMib: 512, maxQueued: 32, drainMs: 120000 } } },
      controller: { config: { replicas: 2, rebalanceThreshold: 0.2 } },
    },
  },
];

/** Every profile, every source, every registry, every scaler and every switch of the chart. */
export const CASES: readonly Case[] = [
  ...PROFILES.map((profile) => ({ name: profile, values: {}, profiles: [profile], outside: ['qwen3.5-35b-a3b'] })),
  ...MODELS,
  ...REGISTRIES,
  ...SCALERS,
  ...MACHINES,
  ...ACCESS,
  ...REST,
];
