import { errorMessage, type Logger, type Metrics } from '@guildhall/common';
import { apiFailureOf } from './api/api-error.ts';
import type { KubeClient } from './api/client.ts';
import { type DeploymentObject, type PodObject, scaleSchema, type ScalerObject } from './api/objects.ts';
import { replicasWriter } from './field-owner.ts';
import type { Informer } from './informer/informer.ts';
import type { KubeEvents } from './kube-events.ts';
import { ANNOTATIONS, isOfCluster, LABELS } from './labels.ts';
import { FIELD_MANAGER } from './lease/lease-record.ts';
import { workloadPod } from './pod-phase.ts';
import type { Workload, Workloads, WriteOutcome } from './types.ts';

/** Collections as this reads them. */
type Source<T> = Pick<Informer<T>, 'items' | 'onChange'>;

export interface KubeWorkloadsOptions {
  client: Pick<KubeClient, 'json'>;
  namespace: string;
  /** Name of the cluster, which ends with the generation that this controller is of. */
  cluster: string;
  deployments: Source<DeploymentObject>;
  pods: Source<PodObject>;
  hpas: Source<ScalerObject>;
  scaledObjects: Source<ScalerObject>;
  /** True while this process may write. */
  mayWrite: () => boolean;
  events: Pick<KubeEvents, 'note'>;
  logger: Logger;
  metrics: Metrics;
}

/** The release's Deployments of routers and expert groups, of this controller's own generation. */
export class KubeWorkloads implements Workloads {
  readonly #o: KubeWorkloadsOptions;
  #memo: Workload[] | null = null;

  constructor(options: KubeWorkloadsOptions) {
    this.#o = options;
    for (const source of this.#sources()) source.onChange(() => (this.#memo = null));
  }

  get current(): readonly Workload[] | null {
    const { deployments, pods, hpas, scaledObjects } = this.#o;
    const [all, there] = [deployments.items, pods.items];
    if (all === null || there === null || hpas.items === null || scaledObjects.items === null) return null;
    this.#memo ??= [...all.values()].flatMap((one) => this.#workloadOf(one, there)).sort(byName);
    return this.#memo;
  }

  onChange(listener: () => void): () => void {
    const offs = this.#sources().map((source) => source.onChange(listener));
    return () => {
      for (const off of offs) off();
    };
  }

  async scale(deployment: string, from: number, to: number): Promise<WriteOutcome> {
    const known = this.#o.deployments.items?.get(deployment);
    if (!this.#o.mayWrite() || known === undefined || !this.#isOurs(known)) return this.#wrote('scale', 'refused');
    if (known.spec.replicas !== from) return this.#wrote('scale', 'conflict');
    const { namespace } = this.#o;
    // The version that was decided on: whoever wrote since then, an upgrade or a person, wins.
    const metadata = { name: deployment, namespace, resourceVersion: known.metadata.resourceVersion };
    const outcome = await this.#write('scale', {
      method: 'PUT',
      path: `${this.#deploymentPath(deployment)}/scale`,
      query: { fieldManager: FIELD_MANAGER },
      body: { apiVersion: 'autoscaling/v1', kind: 'Scale', metadata, spec: { replicas: to } },
    });
    this.#o.logger.info({ event: 'scale', deployment, from, to, outcome }, 'replicas written');
    return outcome;
  }

  /** As of the API server, past the informer; null when it does not answer. */
  async replicas(deployment: string): Promise<number | null> {
    try {
      const path = `${this.#deploymentPath(deployment)}/scale`;
      return scaleSchema.parse(await this.#o.client.json({ method: 'GET', path })).spec.replicas;
    } catch {
      return null;
    }
  }

  setDeletionCost(pod: string, cost: number): Promise<WriteOutcome> {
    return this.#annotate(pod, String(cost));
  }

  /** Deletion costs of pods that have one, by name; those that are no number are passed over. */
  deletionCosts(): ReadonlyMap<string, number> {
    const costs = new Map<string, number>();
    for (const { metadata } of this.#o.pods.items?.values() ?? []) {
      const cost = Number(metadata.annotations[ANNOTATIONS.deletionCost] ?? Number.NaN);
      if (Number.isFinite(cost)) costs.set(metadata.name, cost);
    }
    return costs;
  }

  /** Takes the deletion cost of a pod away again. */
  clearDeletionCost(pod: string): Promise<WriteOutcome> {
    return this.#annotate(pod, null);
  }

  event(deployment: string, type: 'Normal' | 'Warning', reason: string, message: string): void {
    const uid = this.#o.deployments.items?.get(deployment)?.metadata.uid ?? '';
    const regarding = { apiVersion: 'apps/v1', kind: 'Deployment', name: deployment, uid };
    this.#o.events.note({ regarding, type, reason, message });
  }

  #sources(): readonly Pick<Source<unknown>, 'onChange'>[] {
    const { deployments, pods, hpas, scaledObjects } = this.#o;
    return [deployments, pods, hpas, scaledObjects];
  }

  /** An upgrade to another model makes a Deployment that of the controllers of its generation. */
  #isOurs({ spec }: DeploymentObject): boolean {
    return isOfCluster(spec.template.metadata.labels, this.#o.cluster);
  }

  #workloadOf(deployment: DeploymentObject, pods: ReadonlyMap<string, PodObject>): Workload[] {
    const { metadata, spec } = deployment;
    const component = metadata.labels[LABELS.component];
    const group = metadata.labels[LABELS.group] ?? spec.template.metadata.labels[LABELS.group];
    const kind = component === 'router' ? 'routers' : component === 'expert' && group !== undefined ? 'experts' : null;
    if (kind === null || !this.#isOurs(deployment)) return [];
    const selected = Object.entries(spec.selector.matchLabels);
    const mine = [...pods.values()].filter(({ metadata: { labels } }) => selected.every(([k, v]) => labels[k] === v));
    const writer = replicasWriter(metadata, FIELD_MANAGER);
    return [
      {
        kind,
        name: kind === 'routers' ? 'router' : (group ?? ''),
        deployment: metadata.name,
        replicas: spec.replicas,
        foreignWriter: writer === FIELD_MANAGER ? null : writer,
        otherScaler: this.#scalerOf(metadata.name),
        paused: metadata.annotations[ANNOTATIONS.autoscale] === 'paused',
        rolling: isRolling(deployment),
        pods: mine.map(workloadPod).sort((a, b) => (a.name < b.name ? -1 : 1)),
      },
    ];
  }

  #scalerOf(deployment: string): string | null {
    const { hpas, scaledObjects } = this.#o;
    for (const source of [scaledObjects, hpas]) {
      for (const { metadata, spec } of source.items?.values() ?? []) {
        if (spec.scaleTargetRef.kind === 'Deployment' && spec.scaleTargetRef.name === deployment) return metadata.name;
      }
    }
    return null;
  }

  #deploymentPath(deployment: string): string {
    return `/apis/apps/v1/namespaces/${this.#o.namespace}/deployments/${deployment}`;
  }

  async #annotate(pod: string, cost: string | null): Promise<WriteOutcome> {
    const known = this.#o.pods.items?.get(pod);
    if (!this.#o.mayWrite() || known === undefined) return this.#wrote('deletion_cost', 'refused');
    return this.#write('deletion_cost', {
      method: 'PATCH',
      path: `/api/v1/namespaces/${this.#o.namespace}/pods/${pod}`,
      query: { fieldManager: FIELD_MANAGER },
      contentType: 'application/merge-patch+json',
      // The uid, so that no other pod that has got the name meanwhile is meant.
      body: { metadata: { uid: known.metadata.uid, annotations: { [ANNOTATIONS.deletionCost]: cost } } },
    });
  }

  async #write(what: string, request: Parameters<KubeClient['json']>[0]): Promise<WriteOutcome> {
    try {
      await this.#o.client.json(request);
      return this.#wrote(what, 'done');
    } catch (err) {
      const conflict = apiFailureOf(err).status === 409;
      const { path } = request;
      this.#o.logger.warn({ what, path, reason: errorMessage(err) }, 'a write to the API server failed');
      return this.#wrote(what, conflict ? 'conflict' : 'refused');
    }
  }

  #wrote(what: string, outcome: WriteOutcome): WriteOutcome {
    this.#o.metrics.count('guildhall_k8s_writes_total', { what, outcome });
    return outcome;
  }
}

function byName(a: Workload, b: Workload): number {
  return a.deployment < b.deployment ? -1 : 1;
}

/** The Deployment controller has yet to see the newest spec, or pods of an older one are left. */
function isRolling({ metadata, spec, status }: DeploymentObject): boolean {
  if (status.observedGeneration < metadata.generation) return true;
  // Without pods there is nothing to replace.
  return status.replicas > 0 && (status.updatedReplicas < status.replicas || status.replicas > spec.replicas);
}
