import { groupPolicySchema, routerPolicySchema } from '@guildhall/controller/autoscaler';
import { z } from 'zod';
import {
  env,
  object,
  passed,
  passedList,
  quantity,
  reference,
  resources,
  seconds,
  strings,
  tolerations,
} from './kubernetes-types.ts';
import { managedOptions } from './managed.ts';

const probe = object({ periodSeconds: z.int().min(1), failureThreshold: z.int().min(1) });

/** What `pods` says for all, and every workload for itself. */
export const podShape = {
  antiAffinity: z.enum(['preferred', 'required', 'none']),
  topologySpread: z.boolean(),
  minReadySeconds: seconds,
  progressDeadlineSeconds: z.int().min(1),
  terminationGracePeriodSeconds: z.int().min(1).nullable(),
  pdb: object({ mode: z.enum(['auto', 'always', 'never']), maxUnavailable: z.union([z.int().min(1), z.string()]) }),
  probes: object({ startup: probe, readiness: probe, liveness: probe }),
  tmpSize: quantity,
  podLabels: strings,
  podAnnotations: strings,
  nodeSelector: strings,
  tolerations,
  affinity: passed,
  priorityClassName: reference,
  runtimeClassName: reference,
  schedulerName: reference,
  extraEnv: env,
  extraEnvFrom: passedList,
  extraVolumes: passedList,
  extraVolumeMounts: passedList,
  extraInitContainers: passedList,
  extraContainers: passedList,
};

const scaling = {
  autoscaling: object({
    type: z.enum(['none', 'hpa', 'keda']),
    min: z.int().min(0),
    max: z.int().min(1),
    cpuUtilisation: z.int().min(1).max(1000).nullable(),
    metrics: passedList,
    triggers: passedList,
    pollingInterval: z.int().min(1),
    cooldownPeriod: seconds,
    behavior: passed,
  }),
};

/** Bounds of a workload under our own autoscaler: its policy without what the chart knows. */
function autoscaler(policy: z.ZodObject): z.ZodObject {
  const { name: _, deployment: __, gpusPerReplica, ...bounds } = policy.shape as Record<string, z.ZodType>;
  return object({ enabled: z.boolean(), ...bounds, gpusPerReplica: (gpusPerReplica as z.ZodType).nullable() });
}

/** The options that a service takes under `config`. */
function config(schema: z.ZodObject | undefined, service: string): z.ZodType {
  const managed = managedOptions(service);
  const free = Object.entries(schema?.shape ?? {}).filter(([name]) => !managed.has(name));
  return object(Object.fromEntries(free) as Record<string, z.ZodType>);
}

/** Schemas of the parts of the values that are pods. */
export function workloadShapes(services: ReadonlyMap<string, z.ZodObject>): Record<string, z.ZodType> {
  const workload = (service: string): Record<string, z.ZodType> => ({
    replicas: z.int().min(0),
    config: config(services.get(service), service),
    resources,
    ...podShape,
  });
  const expert = {
    ...workload('expert'),
    weightMemoryShare: z.number().gt(0).max(1),
    gpus: z.int().min(0),
    shard: z.string().regex(/^([1-9][0-9]{0,5}\/[1-9][0-9]{0,5})?$/),
    fromPeers: object({ enabled: z.boolean(), size: quantity, storageClassName: reference }),
    failureDomain: z.enum(['node', 'zone', 'none']),
    autoscaler: autoscaler(groupPolicySchema),
  };
  const name = z.string().regex(/^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$/);
  return {
    pods: object(podShape),
    gateway: object({ ...workload('gateway'), ...gatewayShape, ...scaling }),
    router: object({
      ...workload('router'),
      gpus: z.int().min(0),
      kvDisk: object({ enabled: z.boolean(), size: quantity, storageClassName: reference }),
      ...scaling,
      autoscaler: autoscaler(routerPolicySchema),
    }),
    experts: object({ noSpareMachines: z.boolean(), defaults: object(expert) }),
    expertGroups: z.array(object(expert).extend({ name })).max(256),
    controller: object(workload('controller')),
    batch: object({
      enabled: z.boolean(),
      ...workload('batch'),
      storage: object({
        existingClaim: reference,
        size: quantity,
        storageClassName: reference,
        accessMode: z.enum(['ReadWriteOnce', 'ReadWriteOncePod', 'ReadWriteMany']),
      }),
    }),
  };
}

const gatewayShape = {
  service: object({
    type: z.enum(['ClusterIP', 'NodePort', 'LoadBalancer']),
    port: z.int().min(1).max(65_535),
    nodePort: z.int().min(1).max(65_535).nullable(),
    annotations: strings,
    externalTrafficPolicy: z.enum(['', 'Cluster', 'Local']),
    loadBalancerClass: z.string(),
    loadBalancerSourceRanges: z.array(z.string()),
  }),
  https: object({ existingSecret: reference }),
  ingress: object({
    enabled: z.boolean(),
    className: z.string(),
    annotations: strings,
    hosts: z.array(z.string().min(1)),
    tls: z.array(object({ hosts: z.array(z.string()), secretName: z.string() })),
  }),
  httpRoute: object({
    enabled: z.boolean(),
    parentRefs: passedList,
    hostnames: z.array(z.string()),
    requestTimeout: z.string(),
  }),
};
