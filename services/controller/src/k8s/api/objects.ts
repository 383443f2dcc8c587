import { z } from 'zod';

/** What is read of every object. Unknown fields are passed over: newer servers have more of them. */
const metadata = z.object({
  name: z.string(),
  namespace: z.string().default(''),
  uid: z.string().default(''),
  resourceVersion: z.string().default(''),
  generation: z.number().default(0),
  labels: z.record(z.string(), z.string()).default({}),
  annotations: z.record(z.string(), z.string()).default({}),
  creationTimestamp: z.string().nullish(),
  deletionTimestamp: z.string().nullish(),
  ownerReferences: z.array(z.looseObject({ kind: z.string().default(''), name: z.string().default('') })).default([]),
  managedFields: z
    .array(
      z.object({
        manager: z.string().default(''),
        operation: z.string().default(''),
        subresource: z.string().default(''),
        time: z.string().nullish(),
        fieldsV1: z.record(z.string(), z.unknown()).nullish(),
      }),
    )
    .default([]),
});

export type Metadata = z.output<typeof metadata>;

export const deploymentSchema = z.object({
  metadata,
  spec: z.object({
    replicas: z.number().default(1),
    selector: z.object({ matchLabels: z.record(z.string(), z.string()).default({}) }),
    template: z.object({
      metadata: z.object({ labels: z.record(z.string(), z.string()).default({}) }).default({ labels: {} }),
    }),
  }),
  status: z
    .object({
      observedGeneration: z.number().default(0),
      replicas: z.number().default(0),
      updatedReplicas: z.number().default(0),
    })
    .prefault({}),
});

export type DeploymentObject = z.output<typeof deploymentSchema>;

const condition = z.object({
  type: z.string(),
  status: z.string(),
  reason: z.string().nullish(),
  lastTransitionTime: z.string().nullish(),
});

const containerStatus = z.object({
  name: z.string().default(''),
  restartCount: z.number().default(0),
  state: z.object({ waiting: z.object({ reason: z.string().nullish() }).nullish() }).nullish(),
});

export const podSchema = z.object({
  metadata,
  spec: z.object({ nodeName: z.string().nullish() }).prefault({}),
  status: z
    .object({
      phase: z.string().default('Pending'),
      conditions: z.array(condition).default([]),
      initContainerStatuses: z.array(containerStatus).default([]),
      containerStatuses: z.array(containerStatus).default([]),
    })
    .prefault({}),
});

export type PodObject = z.output<typeof podSchema>;

export const endpointSliceSchema = z.object({
  metadata,
  endpoints: z
    .array(
      z.object({
        conditions: z
          .object({ ready: z.boolean().nullish(), serving: z.boolean().nullish(), terminating: z.boolean().nullish() })
          .nullish(),
        targetRef: z.object({ kind: z.string().default(''), name: z.string().default('') }).nullish(),
      }),
    )
    .nullish(),
});

export type EndpointSliceObject = z.output<typeof endpointSliceSchema>;

/** HorizontalPodAutoscaler (autoscaling/v2) and KEDA's ScaledObject name their target alike. */
export const scalerSchema = z.object({
  metadata,
  spec: z.object({
    scaleTargetRef: z.object({ kind: z.string().default('Deployment'), name: z.string() }),
  }),
});

export type ScalerObject = z.output<typeof scalerSchema>;

export const scaleSchema = z.object({
  metadata,
  spec: z.object({ replicas: z.number().default(0) }).prefault({}),
});

export const leaseSchema = z.object({
  metadata,
  spec: z
    .object({
      holderIdentity: z.string().nullish(),
      leaseDurationSeconds: z.number().nullish(),
      acquireTime: z.string().nullish(),
      renewTime: z.string().nullish(),
      leaseTransitions: z.number().nullish(),
    })
    .prefault({}),
});

export type LeaseObject = z.output<typeof leaseSchema>;

/** A page of a list. Items are read one by one, so that one that cannot be read does not hide the others. */
export const listSchema = z.object({
  metadata: z.object({ resourceVersion: z.string().default(''), continue: z.string().nullish() }),
  items: z.array(z.unknown()).nullish(),
});

/** A line of a watch. */
export const watchEventSchema = z.object({
  type: z.enum(['ADDED', 'MODIFIED', 'DELETED', 'BOOKMARK', 'ERROR']),
  object: z.unknown(),
});

/** What every object of a watch has, bookmarks too. */
export const versionedSchema = z.object({
  metadata: z.object({ name: z.string().default(''), resourceVersion: z.string().default('') }),
});

export const statusSchema = z.object({
  code: z.number().default(0),
  reason: z.string().default(''),
  message: z.string().default(''),
});

/** True once the deletion of an object has begun. */
export function isEnding({ deletionTimestamp }: Metadata): boolean {
  return (deletionTimestamp ?? '') !== '';
}

/** Milliseconds since the Unix epoch of a timestamp of the API server; null where there is none. */
export function timeMs(text: string | null | undefined): number | null {
  const ms = Date.parse(text ?? '');
  return Number.isFinite(ms) ? ms : null;
}
