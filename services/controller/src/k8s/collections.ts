import type { Clock, Logger, Metrics } from '@guildhall/common';
import type { KubeClient } from './api/client.ts';
import {
  type DeploymentObject,
  deploymentSchema,
  type EndpointSliceObject,
  endpointSliceSchema,
  type PodObject,
  podSchema,
  type ScalerObject,
  scalerSchema,
} from './api/objects.ts';
import { Informer } from './informer/informer.ts';
import { LABELS } from './labels.ts';

export interface CollectionsOptions {
  client: KubeClient;
  namespace: string;
  release: string;
  watchAgeMs: number;
  clock: Clock;
  logger: Logger;
  metrics: Metrics;
}

/** What is watched: each of it in the release's namespace only. */
export interface Collections {
  deployments: Informer<DeploymentObject>;
  pods: Informer<PodObject>;
  slices: Informer<EndpointSliceObject>;
  hpas: Informer<ScalerObject>;
  scaledObjects: Informer<ScalerObject>;
}

export function openCollections(options: CollectionsOptions): Collections {
  const { namespace, release, ...shared } = options;
  const own = `${LABELS.instance}=${release}`;
  // Slices bear the labels of their Service; other Services over the same pods, such as that of the admin ports, are left out.
  const workers = `${own},${LABELS.component} in (router,expert)`;
  const at = (group: string, plural: string): string => `${group}/namespaces/${namespace}/${plural}`;
  const open = <T>(kind: string, group: string, read: (object: unknown) => T, labelSelector?: string): Informer<T> =>
    new Informer({
      ...shared,
      kind,
      path: at(group, kind),
      read,
      ...(labelSelector === undefined ? {} : { labelSelector }),
      optional: kind === 'scaledobjects',
    });
  return {
    deployments: open('deployments', '/apis/apps/v1', (object) => deploymentSchema.parse(object), own),
    pods: open('pods', '/api/v1', (object) => podSchema.parse(object), own),
    slices: open('endpointslices', '/apis/discovery.k8s.io/v1', (object) => endpointSliceSchema.parse(object), workers),
    hpas: open('horizontalpodautoscalers', '/apis/autoscaling/v2', (object) => scalerSchema.parse(object)),
    scaledObjects: open('scaledobjects', '/apis/keda.sh/v1alpha1', (object) => scalerSchema.parse(object)),
  };
}
