import { type Clock, systemClock } from '@guildhall/common';
import {
  CoreV1Api,
  type KubeConfig,
  makeInformer,
  type V1ConfigMap,
  type V1EndpointSlice,
  type V1Secret,
  type V1Service,
} from '@kubernetes/client-node';
import {
  DiscoveryV1Api,
  type Informer,
  type KubernetesListObject,
  type KubernetesObject,
  type ObjectCache,
} from '@kubernetes/client-node';
import type { KeyedSource } from './environment.ts';
import { serviceHosts } from './hosts.ts';
import type { ProjectionSource } from './projection.ts';

const RESTART_MS = 500;

type Cache<T extends KubernetesObject> = Informer<T> & ObjectCache<T>;

/** Starts an informer that is started again whenever its watch breaks. */
export async function keepInformed<T extends KubernetesObject>(
  config: KubeConfig,
  path: string,
  list: () => Promise<KubernetesListObject<T>>,
  signal: AbortSignal,
  clock: Clock = systemClock,
): Promise<Cache<T>> {
  const informer = makeInformer<T>(config, path, list);
  informer.on('error', () => {
    clock.setTimer(RESTART_MS, () => {
      if (!signal.aborted) informer.start().catch(() => undefined);
    });
  });
  signal.addEventListener('abort', () => void informer.stop());
  await informer.start();
  return informer;
}

/** What every pod of the nodes is made from: Services, ConfigMaps and Secrets as the API server has them. */
export class ClusterState {
  readonly #core: CoreV1Api;
  readonly #services: Cache<V1Service>;
  readonly #slices: Cache<V1EndpointSlice>;
  readonly #configMaps: Cache<V1ConfigMap>;
  readonly #secrets: Cache<V1Secret>;

  private constructor(
    core: CoreV1Api,
    services: Cache<V1Service>,
    slices: Cache<V1EndpointSlice>,
    configMaps: Cache<V1ConfigMap>,
    secrets: Cache<V1Secret>,
  ) {
    this.#core = core;
    this.#services = services;
    this.#slices = slices;
    this.#configMaps = configMaps;
    this.#secrets = secrets;
  }

  static async start(config: KubeConfig, signal: AbortSignal): Promise<ClusterState> {
    const core = config.makeApiClient(CoreV1Api);
    const discovery = config.makeApiClient(DiscoveryV1Api);
    const [services, slices, configMaps, secrets] = await Promise.all([
      keepInformed(config, '/api/v1/services', () => core.listServiceForAllNamespaces(), signal),
      keepInformed(
        config,
        '/apis/discovery.k8s.io/v1/endpointslices',
        () => discovery.listEndpointSliceForAllNamespaces(),
        signal,
      ),
      keepInformed(config, '/api/v1/configmaps', () => core.listConfigMapForAllNamespaces(), signal),
      keepInformed(config, '/api/v1/secrets', () => core.listSecretForAllNamespaces(), signal),
    ]);
    return new ClusterState(core, services, slices, configMaps, secrets);
  }

  /** Calls `listener` when a Service or its endpoints change. */
  onServices(listener: () => void): void {
    this.#services.on('change', listener);
    this.#slices.on('change', listener);
  }

  /** Calls `listener` with the namespace in which a ConfigMap or a Secret changed. */
  onContents(listener: (namespace: string) => void): void {
    this.#configMaps.on('change', ({ metadata }) => listener(metadata?.namespace ?? ''));
    this.#secrets.on('change', ({ metadata }) => listener(metadata?.namespace ?? ''));
  }

  services(namespace: string): readonly V1Service[] {
    return this.#services.list(namespace);
  }

  /** Lines of `/etc/hosts` for pods of a namespace. */
  hosts(namespace: string): string[] {
    return serviceHosts(this.#services.list(), this.#slices.list(), namespace);
  }

  // The cache may be behind what was created together with the pod: a miss asks the server.
  async #configMap(namespace: string, name: string): Promise<V1ConfigMap | undefined> {
    const known = this.#configMaps.get(name, namespace);
    return known ?? (await this.#core.readNamespacedConfigMap({ namespace, name }).catch(() => undefined));
  }

  async #secret(namespace: string, name: string): Promise<V1Secret | undefined> {
    const known = this.#secrets.get(name, namespace);
    return known ?? (await this.#core.readNamespacedSecret({ namespace, name }).catch(() => undefined));
  }

  async #configMapFiles(namespace: string, name: string): Promise<Record<string, Buffer> | undefined> {
    const found = await this.#configMap(namespace, name);
    if (found === undefined) return undefined;
    const text = Object.entries(found.data ?? {}).map(([key, value]) => [key, Buffer.from(value)]);
    const binary = Object.entries(found.binaryData ?? {}).map(([key, value]) => [key, Buffer.from(value, 'base64')]);
    return Object.fromEntries([...text, ...binary]) as Record<string, Buffer>;
  }

  async #secretFiles(namespace: string, name: string): Promise<Record<string, Buffer> | undefined> {
    const found = await this.#secret(namespace, name);
    if (found === undefined) return undefined;
    const entries = Object.entries(found.data ?? {}).map(([key, value]) => [key, Buffer.from(value, 'base64')]);
    return Object.fromEntries(entries) as Record<string, Buffer>;
  }

  /** Contents of ConfigMaps and Secrets for environment variables of a namespace's pods. */
  keyed(namespace: string): KeyedSource {
    const text = (files: Record<string, Buffer> | undefined): Record<string, string> | undefined =>
      files && Object.fromEntries(Object.entries(files).map(([key, value]) => [key, value.toString()]));
    return {
      configMap: async (name) => text(await this.#configMapFiles(namespace, name)),
      secret: async (name) => text(await this.#secretFiles(namespace, name)),
    };
  }

  /** Contents of volumes for one pod. */
  projection(namespace: string, pod: { name: string; uid: string; serviceAccount: string }): ProjectionSource {
    const tokens = new Map<string, { token: string; untilMs: number }>();
    return {
      configMapFiles: (name) => this.#configMapFiles(namespace, name),
      secretFiles: (name) => this.#secretFiles(namespace, name),
      token: async (audience = '', seconds) => {
        const known = tokens.get(audience);
        if (known !== undefined && known.untilMs > systemClock.nowMs()) return known.token;
        const boundObjectRef = { apiVersion: 'v1', kind: 'Pod', name: pod.name, uid: pod.uid };
        const audiences = audience === '' ? [] : [audience];
        const answer = await this.#core.createNamespacedServiceAccountToken({
          namespace,
          name: pod.serviceAccount,
          body: { spec: { audiences, expirationSeconds: seconds, boundObjectRef } },
        });
        const token = answer.status?.token ?? '';
        // A kubelet asks for a new one after four fifths of its time.
        tokens.set(audience, { token, untilMs: systemClock.nowMs() + seconds * 800 });
        return token;
      },
    };
  }
}
