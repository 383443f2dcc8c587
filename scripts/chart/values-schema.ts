import { METRICS, type MetricInfo } from '@guildhall/common';
import { autoscalerPolicySchema } from '@guildhall/controller/autoscaler';
import { KV_DTYPES, WEIGHT_FORMATS } from '@guildhall/model/weights';
import { z } from 'zod';
import {
  env,
  image,
  object,
  passed,
  passedList,
  port,
  quantity,
  reference,
  resources,
  strings,
  tolerations,
} from './kubernetes-types.ts';
import { workloadShapes } from './workload-values.ts';

const folder = { sizeLimit: quantity, claimName: reference, hostPath: z.string() };
const key = z.string().regex(/^[-._a-zA-Z0-9]+$/);
const optionalKey = z.string().regex(/^[-._a-zA-Z0-9]*$/);
const duration = z.string().regex(/^([0-9]+(h|m|s))+$/);

const model = object({
  source: z.string().min(1),
  path: z.string().regex(/^[^/].*$|^$/),
  sha256: z.string().regex(/^([0-9a-f]{64})?$/),
  names: z.array(z.string().min(1).max(256)),
  weights: z.enum(WEIGHT_FORMATS),
  kvDtype: z.enum(KV_DTYPES),
  combine: z.enum(['exact', 'partial']),
  bf16Kernels: z.enum(['auto', 'bf16-fma', 'bf16-dot']),
  rollout: z.enum(['auto', 'sideBySide', 'recreate']),
  pull: object({ existingSecret: reference, endpoint: z.string(), extraEnv: env, resources }),
  store: object({ type: z.enum(['emptyDir', 'hostPath', 'pvc']), ...folder }),
  weightsCache: object({ type: z.enum(['none', 'emptyDir', 'hostPath', 'pvc']), ...folder }),
});

const registry = object({
  mode: z.enum(['bundled', 'external']),
  external: object({
    url: z.string(),
    existingSecret: reference,
    urlKey: key,
    usernameKey: optionalKey,
    passwordKey: optionalKey,
    ports: z.array(port),
    cidrs: z.array(z.string()),
    ca: object({ existingSecret: reference, key }),
  }),
  bundled: object({
    image,
    existingSecret: reference,
    resources,
    persistence: object({
      enabled: z.boolean(),
      size: quantity,
      storageClassName: reference,
      whenDeleted: z.enum(['Retain', 'Delete']),
    }),
    extraConfig: z.string(),
    priorityClassName: reference,
    nodeSelector: strings,
    tolerations,
    affinity: passed,
  }),
});

const tls = object({
  enabled: z.boolean(),
  existingSecret: reference,
  serverName: z.string(),
  certManager: object({
    issuerRef: object({ name: reference, kind: z.enum(['Issuer', 'ClusterIssuer']), group: z.string() }),
    duration,
    renewBefore: duration,
  }),
});

const gpu = object({
  mode: z.enum(['none', 'devicePlugin', 'dra']),
  resourceName: z.string().regex(/^[a-z0-9.-]+\/[a-zA-Z0-9._-]+$/),
  deviceClassName: z.string().min(1),
  selectors: z.array(z.string()),
  runtimeClassName: reference,
  tolerations,
});

const networkPolicy = object({
  enabled: z.boolean(),
  apiFrom: passedList,
  metricsFrom: passedList,
  dnsTo: passedList,
  tracingTo: passedList,
  apiServer: object({ cidrs: z.array(z.string()), ports: z.array(port) }),
  pullTo: passedList,
  pullPorts: z.array(port),
});

/**
 * A bound between slow and not slow, which must be one of the histogram's. Whole numbers are left out: their `le` is `5` in one
 * major version of Prometheus and `5.0` in the next.
 */
function bucketOf(metric: keyof typeof METRICS): z.ZodType {
  const { buckets } = METRICS[metric] as MetricInfo;
  return z.literal((buckets ?? []).filter((bound) => !Number.isInteger(bound)));
}

const observability = {
  metrics: object({
    serviceMonitor: object({
      enabled: z.boolean(),
      interval: duration,
      labels: strings,
      relabelings: passedList,
      metricRelabelings: passedList,
    }),
  }),
  alerts: object({
    enabled: z.boolean(),
    labels: strings,
    runbooks: z.string(),
    slo: object({
      ttftSeconds: bucketOf('vllm:time_to_first_token_seconds'),
      itlSeconds: bucketOf('vllm:inter_token_latency_seconds'),
      allowedShare: z.number().gt(0).lt(1),
    }),
  }),
  dashboards: object({ enabled: z.boolean(), labels: strings, annotations: strings }),
  tracing: object({
    endpoint: z.string(),
    ratio: z.number().min(0).max(1),
    stepRatio: z.number().min(0).max(1),
    ports: z.array(port),
  }),
};

/** Values of the chart. Option schemas of services, by their names, give what `config` takes. */
export function valuesSchema(services: ReadonlyMap<string, z.ZodObject>): z.ZodObject {
  const { groups: _, routers: __, ...policy } = autoscalerPolicySchema.shape;
  return object({
    global: object({ imageRegistry: z.string(), imagePullSecrets: z.array(z.strictObject({ name: z.string() })) }),
    fullnameOverride: z.string().regex(/^([a-z]([a-z0-9-]{0,38}[a-z0-9])?)?$/),
    commonLabels: strings,
    commonAnnotations: strings,
    ipFamily: z.enum(['IPv4', 'IPv6']),
    image,
    model,
    ...workloadShapes(services),
    autoscaler: object(policy),
    registry,
    auth: object({ mode: z.enum(['keys', 'none']), existingSecret: reference, keysKey: key, testKey: key }),
    clusterToken: object({ existingSecret: reference, key }),
    tls,
    gpu,
    networkPolicy,
    ...observability,
    inferencePool: object({
      enabled: z.boolean(),
      endpointPicker: object({ name: reference, port, failureMode: z.enum(['FailClose', 'FailOpen']) }),
    }),
    tests: object({ enabled: z.boolean(), timeoutSeconds: z.int().min(1), resources }),
    extraObjects: passedList,
  });
}
