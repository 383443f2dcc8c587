import { type Clock, fail } from '@guildhall/common';
import { KubeClient } from './api/client.ts';
import { type Credentials, inClusterCredentials, kubeconfigCredentials } from './api/credentials.ts';

/** What of a controller's configuration is about Kubernetes. */
export interface KubernetesConfig {
  kubernetes: 'auto' | 'on' | 'off';
  namespace: string | null;
  release: string | null;
  leaseName: string | null;
  watchAgeMs: number;
  cluster: string;
}

/** The API server, and what of it is this release's. */
export interface KubernetesAccess {
  client: KubeClient;
  namespace: string;
  release: string;
  leaseName: string;
}

export interface ConnectDeps {
  clock: Clock;
  env: Record<string, string | undefined>;
  /** Where the token of the service account is, for tests. */
  serviceAccountDir?: string;
}

/**
 * Access to Kubernetes as the configuration wants it; null for none. `auto` is on in a pod with a service account's token and a
 * release. Nothing is asked of the API server yet. Throws `config_invalid` where `on` cannot be.
 */
export async function connectKubernetes(config: KubernetesConfig, deps: ConnectDeps): Promise<KubernetesAccess | null> {
  if (config.kubernetes === 'off') return null;
  const { env, clock, serviceAccountDir: dir } = deps;
  const inCluster = await inClusterCredentials({ env, clock, ...(dir === undefined ? {} : { dir }) });
  const { release } = config;
  if (config.kubernetes === 'auto' && (inCluster === null || release === null)) return null;
  if (release === null)
    throw fail(
      'config_invalid',
      '--release is required with --kubernetes on: the value of app.kubernetes.io/instance',
      {
        field: 'release',
      },
    );
  const credentials: Credentials = inCluster ?? (await kubeconfigCredentials());
  const namespace = config.namespace ?? credentials.namespace;
  if (namespace === null)
    throw fail('config_invalid', '--namespace is required: neither the pod nor the kubeconfig names one', {
      field: 'namespace',
    });
  const client = new KubeClient(credentials, clock);
  return { client, namespace, release, leaseName: config.leaseName ?? `${release}-controller` };
}
