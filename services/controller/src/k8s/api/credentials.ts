import { readFile } from 'node:fs/promises';
import { isIPv6 } from 'node:net';
import { type Clock, errorMessage, fail } from '@guildhall/common';

/** TLS material of a connection to the API server, as Node takes it. */
export interface ApiTls {
  ca?: Buffer | string;
  cert?: Buffer | string;
  key?: Buffer | string;
  servername?: string;
  rejectUnauthorized?: boolean;
}

/** Who talks to which API server. Asked before each request, so that rotated tokens and authorities are taken up. */
export interface Credentials {
  /** Base URL of the API server. */
  readonly server: URL;
  /** Namespace that belongs to them; null when they name none. */
  readonly namespace: string | null;
  /** Headers that prove who asks, and the TLS material. Throws `kubernetes_unavailable` when they cannot be had. */
  current(): Promise<{ headers: Record<string, string>; tls: ApiTls }>;
  /** What was read is not to be used again: the server refused it. */
  forget(): void;
}

/** Where Kubernetes puts the token of a pod's service account. */
export const SERVICE_ACCOUNT_DIR = '/var/run/secrets/kubernetes.io/serviceaccount';
/** The kubelet writes a new token well before the old one ends; client-go reads it as often. */
const REREAD_MS = 60_000;

export interface InClusterOptions {
  env: Record<string, string | undefined>;
  clock: Clock;
  dir?: string;
}

/**
 * Credentials of the pod's service account; null outside a pod, where there is no token or no address. Throws
 * `config_invalid` for an address that is none.
 */
export async function inClusterCredentials(options: InClusterOptions): Promise<Credentials | null> {
  const { env, clock, dir = SERVICE_ACCOUNT_DIR } = options;
  const { KUBERNETES_SERVICE_HOST: host, KUBERNETES_SERVICE_PORT: port } = env;
  if (host === undefined || port === undefined) return null;
  const token = await readOrNull(`${dir}/token`);
  if (token === null) return null;
  const namespace = (await readOrNull(`${dir}/namespace`))?.trim() ?? null;
  const server = URL.parse(`https://${isIPv6(host) ? `[${host}]` : host}:${port}`);
  if (server === null)
    throw fail('config_invalid', `KUBERNETES_SERVICE_HOST and _PORT name no server: ${host}:${port}`, {
      field: 'kubernetes',
    });
  return new ServiceAccount(server, namespace, dir, clock);
}

async function readOrNull(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8');
  } catch {
    return null;
  }
}

class ServiceAccount implements Credentials {
  readonly server: URL;
  readonly namespace: string | null;
  readonly #dir: string;
  readonly #clock: Clock;
  #read: { headers: Record<string, string>; tls: ApiTls; atMs: number } | null = null;

  constructor(server: URL, namespace: string | null, dir: string, clock: Clock) {
    this.server = server;
    this.namespace = namespace;
    this.#dir = dir;
    this.#clock = clock;
  }

  async current(): Promise<{ headers: Record<string, string>; tls: ApiTls }> {
    const nowMs = this.#clock.monotonicMs();
    if (this.#read !== null && nowMs - this.#read.atMs < REREAD_MS) return this.#read;
    try {
      const [token, ca] = await Promise.all([
        readFile(`${this.#dir}/token`, 'utf8'),
        readFile(`${this.#dir}/ca.crt`, 'utf8'),
      ]);
      this.#read = { headers: { authorization: `Bearer ${token.trim()}` }, tls: { ca }, atMs: nowMs };
    } catch (err) {
      // A projected volume is replaced as a whole; in between the old token is still good.
      if (this.#read === null)
        throw fail('kubernetes_unavailable', `the token of the service account cannot be read: ${errorMessage(err)}`, {
          cause: err,
        });
    }
    return this.#read;
  }

  forget(): void {
    if (this.#read !== null) this.#read.atMs = Number.NEGATIVE_INFINITY;
  }
}

/**
 * Credentials of the current context of the files in KUBECONFIG, or of ~/.kube/config: tokens, certificates and exec
 * plugins. Throws `config_invalid` when there is none. The library behind it is loaded here and nowhere else: it costs a
 * second and 90 MB, which a pod does not need.
 */
export async function kubeconfigCredentials(): Promise<Credentials> {
  const { KubeConfig } = await import('@kubernetes/client-node');
  const config = new KubeConfig();
  try {
    config.loadFromDefault();
  } catch (err) {
    throw fail('config_invalid', `the kubeconfig cannot be read: ${errorMessage(err)}`, {
      field: 'kubernetes',
      cause: err,
    });
  }
  const server = URL.parse(config.getCurrentCluster()?.server ?? '');
  if (server === null)
    throw fail('config_invalid', 'the kubeconfig has no current context with a server', { field: 'kubernetes' });
  return {
    server,
    namespace: config.getContextObject(config.getCurrentContext())?.namespace ?? null,
    forget: () => undefined,
    async current() {
      const options: KubeconfigRequest = { headers: {} };
      try {
        await config.applyToHTTPSOptions(options as Parameters<typeof config.applyToHTTPSOptions>[0]);
      } catch (err) {
        throw fail('kubernetes_unavailable', `no credentials from the kubeconfig: ${errorMessage(err)}`, {
          cause: err,
        });
      }
      const { ca, cert, key, servername, rejectUnauthorized, headers, auth } = options;
      const basic = auth === undefined ? {} : { authorization: `Basic ${Buffer.from(auth).toString('base64')}` };
      const tls = { ca, cert, key, servername, rejectUnauthorized };
      const given = Object.entries(tls).filter(([, value]) => value !== undefined);
      return { headers: { ...headers, ...basic }, tls: Object.fromEntries(given) as ApiTls };
    },
  };
}

interface KubeconfigRequest extends ApiTls {
  headers: Record<string, string>;
  auth?: string;
}
