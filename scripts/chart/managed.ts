/**
 * Options that the chart decides itself: by the pod, by a Secret, or by a value that several objects depend on. They are not taken
 * under `config`; the templates set them by `config.json` or by the environment.
 */
const COMMON = [
  'listen',
  'advertise',
  'adminListen',
  'redis',
  'redisUsername',
  'redisPassword',
  'sentinelUsername',
  'sentinelPassword',
  'redisCa',
  'cluster',
  'id',
  'node',
  'clusterToken',
  'tlsCert',
  'tlsKey',
  'tlsCa',
  'tlsServerName',
  'readyFd',
  'parentPipe',
  'otlpEndpoint',
  'traceRatio',
  'traceStepRatio',
];

/** What the numerics class consists of, which all processes must agree on: `model.*` of the values. */
const NUMERICS = ['weights', 'weightsCache', 'kvDtype', 'combine', 'bf16Kernels'];

const OWN: Record<string, string[]> = {
  gateway: [
    'model',
    'servedModelName',
    'accounts',
    'apiKey',
    'apiKeys',
    'apiKeyFile',
    'allowAnonymous',
    'httpsCert',
    'httpsKey',
  ],
  router: ['model', 'servedModelName', ...NUMERICS, 'kvDisk', 'kvDiskLimit'],
  expert: ['model', 'modelFromPeers', 'modelDiskMib', ...NUMERICS, 'group', 'failureDomain'],
  controller: ['kubernetes', 'namespace', 'release', 'leaseName', 'autoscalerPolicy'],
  batch: ['dataDir'],
};

/** Names of the options of a service that its `config` in the values does not take. */
export function managedOptions(service: string): ReadonlySet<string> {
  return new Set([...COMMON, ...(OWN[service] ?? [])]);
}
