import type { Clock, Cluster, EventKind, Logger, Metrics, TlsConfig } from '@guildhall/common';
import type { Emit } from '../events.ts';
import { isEnding } from './api/objects.ts';
import { type Collections, openCollections } from './collections.ts';
import type { KubernetesAccess, KubernetesConfig } from './connect.ts';
import { KubeEndpoints } from './endpoints.ts';
import { EVENT_REASONS } from './event-reasons.ts';
import type { Informer } from './informer/informer.ts';
import { JoinedLiveness, type PodState } from './joined-liveness.ts';
import { KubeEvents } from './kube-events.ts';
import { isOfCluster, LABELS } from './labels.ts';
import { LeaseElection } from './lease/lease-election.ts';
import { LEASE_RENEW_MS } from './lease/lease-holder.ts';
import { type LeaseOwner, LeaseStore } from './lease/lease-record.ts';
import { RouterDrains } from './shrink/router-drains.ts';
import { Shrinker } from './shrink/shrinker.ts';
import type { KubernetesStatus } from './status.ts';
import { KubeWorkloads } from './workloads.ts';

export interface KubernetesOptions {
  access: KubernetesAccess;
  config: Pick<KubernetesConfig, 'watchAgeMs' | 'cluster'> & TlsConfig & { clusterToken: string | null };
  cluster: Pick<Cluster, 'redis' | 'keys' | 'drains' | 'members'>;
  /** Name of this process, which is that of its pod. */
  id: string;
  /** Unique to this process's start. */
  identity: string;
  clock: Clock;
  logger: Logger;
  metrics: Metrics;
  emit: Emit;
  /** Something is to be looked at again. */
  onChange: () => void;
}

/** Everything that the controller does with Kubernetes. */
export class Kubernetes {
  readonly leader: LeaseElection;
  readonly workloads: KubeWorkloads;
  readonly endpoints: KubeEndpoints;
  readonly liveness: JoinedLiveness;
  readonly shrinks: Shrinker;
  readonly events: KubeEvents;
  readonly #collections: Collections;
  readonly #routers: RouterDrains;
  readonly #o: KubernetesOptions;
  #owner: LeaseOwner | null = null;

  constructor(options: KubernetesOptions) {
    const { access, cluster, config, clock, logger, metrics, emit, id: instance } = options;
    const { client, namespace } = access;
    this.#o = options;
    this.#collections = openCollections({ ...access, watchAgeMs: config.watchAgeMs, clock, logger, metrics });
    this.leader = this.#election();
    const mayWrite = (): boolean => this.leader.mayWrite;
    this.events = new KubeEvents({ client, namespace, instance, mayWrite, clock, logger, metrics });
    const { events } = this;
    const shared = { client, namespace, cluster: config.cluster, mayWrite, events, logger, metrics };
    this.workloads = new KubeWorkloads({ ...this.#collections, ...shared });
    this.endpoints = new KubeEndpoints(this.#collections.slices);
    this.liveness = new JoinedLiveness({ endpoints: this.endpoints, pods: () => this.#pods(), clock, logger, emit });
    const { clusterToken } = config;
    this.#routers = new RouterDrains({ tls: config, clusterToken, logger, onChange: options.onChange });
    this.shrinks = new Shrinker({
      drains: cluster.drains,
      workloads: this.workloads,
      leader: this.leader,
      members: () => cluster.members.members(),
      routers: this.#routers,
      clock,
      logger,
      emit,
    });
    const { deployments, pods, slices } = this.#collections;
    for (const one of [deployments, pods, slices]) one.onChange(options.onChange);
  }

  /** True once everything that is watched was listed. */
  get synced(): boolean {
    return this.workloads.current !== null && this.endpoints.current !== null;
  }

  /** Begins to watch; the leader stands for election by itself. */
  start(): void {
    for (const informer of this.#informers()) informer.start();
  }

  async stop(): Promise<void> {
    await this.events.flushed();
    this.#routers.close();
    await Promise.all(this.#informers().map((informer) => informer.stop()));
    this.#o.access.client.close();
  }

  /** Tells an event of the cluster's log as a Kubernetes Event too: about the worker's pod where there is one. */
  note(kind: EventKind, message: string, details: Record<string, unknown>): void {
    const about = EVENT_REASONS[kind];
    if (about === undefined) return;
    const name = typeof details['worker'] === 'string' ? details['worker'] : this.#o.id;
    const pod = this.#collections.pods.items?.get(name);
    const uid = pod?.metadata.uid ?? '';
    this.events.note({ ...about, message, regarding: { apiVersion: 'v1', kind: 'Pod', name, uid } });
  }

  /** Sets the gauges of the watches. */
  observe(): void {
    for (const { kind, ageMs } of this.#informers())
      if (Number.isFinite(ageMs)) this.#o.metrics.gauge('guildhall_k8s_watch_age_seconds', ageMs / 1000, { kind });
  }

  status(): KubernetesStatus {
    const { namespace, release, leaseName } = this.#o.access;
    const { lease, mode } = this.leader;
    return {
      namespace,
      release,
      lease: { name: leaseName, holder: lease.holder, mode },
      watches: this.#informers().map(({ kind, ageMs, stale, problem }) => ({
        kind,
        ageS: Number.isFinite(ageMs) ? Math.round(ageMs / 1000) : null,
        stale,
        problem,
      })),
      workloads: (this.workloads.current ?? []).map((workload) => ({ ...workload, pods: [...workload.pods] })),
      shrinks: [...this.shrinks.current],
    };
  }

  #informers(): Informer<unknown>[] {
    const { deployments, pods, slices, hpas, scaledObjects } = this.#collections;
    return [deployments, pods, slices, hpas, scaledObjects];
  }

  #election(): LeaseElection {
    const { access, cluster, identity, clock, logger } = this.#o;
    const { client, namespace, leaseName } = access;
    const store = new LeaseStore(client, namespace, leaseName, LEASE_RENEW_MS * 2);
    const { redis, keys } = cluster;
    return new LeaseElection({ store, owner: () => this.#leaseOwner(), redis, keys, clock, logger, identity });
  }

  /** The Lease goes with the controller's Deployment, so that an uninstalled release leaves none. */
  #leaseOwner(): LeaseOwner | null {
    for (const { metadata } of this.#collections.deployments.items?.values() ?? []) {
      if (metadata.labels[LABELS.component] !== 'controller') continue;
      this.#owner = { apiVersion: 'apps/v1', kind: 'Deployment', name: metadata.name, uid: metadata.uid };
    }
    return this.#owner;
  }

  #pods(): ReadonlyMap<string, PodState> | null {
    const { items } = this.#collections.pods;
    if (items === null) return null;
    const pods = new Map<string, PodState>();
    for (const [name, { metadata }] of items) {
      if (!isOfCluster(metadata.labels, this.#o.config.cluster)) continue;
      const component = metadata.labels[LABELS.component] ?? '';
      pods.set(name, { component, terminating: isEnding(metadata) });
    }
    return pods;
  }
}
