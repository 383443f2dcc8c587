import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AuthenticationV1Api, CoreV1Api, Health, KubeConfig } from '@kubernetes/client-node';
import { type Program, ensurePrograms } from '../binaries/index.ts';
import { type Credentials, makeCredentials } from './credentials.ts';
import { Daemon, freePort } from './daemon.ts';
import { apiFlags, controllerFlags, etcdFlags, kwokFlags, type Ports, schedulerFlags } from './flags.ts';

const START_LIMIT_MS = 120_000;
const STAGES = fileURLToPath(new URL('../kwok/stages.yaml', import.meta.url));

/** Which parts of a cluster run. etcd and kube-apiserver always do. */
export interface ControlPlaneOptions {
  /** kube-controller-manager: Deployments, EndpointSlices, garbage collection, HPAs, PodDisruptionBudgets, node health. */
  controllers?: boolean;
  scheduler?: boolean;
  /** kwok plays the kubelet of every Node annotated `kwok.x-k8s.io/node: fake`; true takes `test/k8s/kwok/stages.yaml`. */
  kwok?: boolean | { stages: string };
  /** Address of this machine that pods can reach; makes the API server listen beyond loopback. For sandboxes only. */
  advertise?: string;
  /** Folder for everything it writes; a temporary one by default. `stop` removes it. */
  folder?: string;
  /** Gets a line for each part that is up. */
  say?: (line: string) => void;
}

/** What a program said, and how it ended. */
export interface CommandResult {
  code: number;
  stdout: string;
  stderr: string;
}

/** A Kubernetes control plane of real programs on loopback, with nothing in it. Everything ends with this process. */
export class ControlPlane {
  /** Folder of everything it writes: logs, keys, kubeconfig. Removed by `stop`. */
  readonly folder: string;
  /** File for `KUBECONFIG`, with the rights of system:masters. */
  readonly kubeconfigFile: string;
  readonly url: string;
  readonly credentials: Credentials;
  readonly #daemons: Daemon[] = [];
  readonly #programs: Record<string, string>;

  constructor(folder: string, url: string, credentials: Credentials, programs: Record<string, string>) {
    this.folder = folder;
    this.url = url;
    this.credentials = credentials;
    this.#programs = programs;
    this.kubeconfigFile = this.writeKubeconfig('admin', credentials.adminToken);
  }

  /** A client configuration that authenticates with `token`, or as the administrator. */
  kubeConfig(token: string = this.credentials.adminToken): KubeConfig {
    const config = new KubeConfig();
    config.loadFromString(this.#kubeconfigText(token));
    return config;
  }

  /** Writes a kubeconfig file for a token and returns its path. `url` is where the API server is reached, if not at `url` of this cluster. */
  writeKubeconfig(name: string, token: string, url: string = this.url): string {
    const path = resolve(this.folder, `${name}.kubeconfig`);
    writeFileSync(path, this.#kubeconfigText(token, url), { mode: 0o600 });
    return path;
  }

  #kubeconfigText(token: string, url: string = this.url): string {
    return JSON.stringify({
      apiVersion: 'v1',
      kind: 'Config',
      'current-context': 'bench',
      clusters: [
        {
          name: 'bench',
          cluster: { server: url, 'certificate-authority-data': Buffer.from(this.credentials.ca).toString('base64') },
        },
      ],
      users: [{ name: 'bench', user: { token } }],
      contexts: [{ name: 'bench', context: { cluster: 'bench', user: 'bench' } }],
    });
  }

  /** A token for a service account, as a pod of it would get: what RBAC allows it is what this client may do. */
  async serviceAccountConfig(namespace: string, name: string): Promise<KubeConfig> {
    const spec = { audiences: [], expirationSeconds: 3600 };
    const request = await this.kubeConfig()
      .makeApiClient(CoreV1Api)
      .createNamespacedServiceAccountToken({ namespace, name, body: { spec } });
    return this.kubeConfig(request.status?.token ?? '');
  }

  /** Whom the API server takes the holder of a configuration for. */
  async whoAmI(config: KubeConfig): Promise<string> {
    const review = await config.makeApiClient(AuthenticationV1Api).createSelfSubjectReview({ body: {} });
    return review.status?.userInfo?.username ?? '';
  }

  /** Path of a program of the bench. It must be one that this cluster was started with, or helm or kubectl. */
  program(name: Program): string {
    return this.#programs[name] ?? name;
  }

  /** Runs kubectl as administrator. Never throws: look at `code`. */
  async kubectl(
    args: readonly string[],
    options: { input?: string; kubeconfig?: string } = {},
  ): Promise<CommandResult> {
    return await this.run('kubectl', args, options);
  }

  /** Runs helm as administrator. Never throws: look at `code`. */
  async helm(args: readonly string[], options: { input?: string; kubeconfig?: string } = {}): Promise<CommandResult> {
    return await this.run('helm', args, options);
  }

  /** Runs a program of the bench with this cluster's KUBECONFIG and folders of its own for Helm. */
  async run(
    program: Program,
    args: readonly string[],
    { input, kubeconfig }: { input?: string; kubeconfig?: string } = {},
  ): Promise<CommandResult> {
    const home = join(this.folder, 'home');
    const env = {
      ...process.env,
      KUBECONFIG: kubeconfig ?? this.kubeconfigFile,
      HOME: home,
      HELM_CACHE_HOME: join(home, 'helm-cache'),
      HELM_CONFIG_HOME: join(home, 'helm-config'),
      HELM_DATA_HOME: join(home, 'helm-data'),
    };
    return await new Promise((resolve) => {
      const child = execFile(
        this.program(program),
        [...args],
        { env, maxBuffer: 64 << 20 },
        (error, stdout, stderr) => {
          const code = error === null ? 0 : typeof error.code === 'number' ? error.code : 1;
          resolve({ code, stdout, stderr: error !== null && stderr === '' ? error.message : stderr });
        },
      );
      child.stdin?.end(input ?? '');
    });
  }

  /** Starts one more program beside the control plane; it ends with it. */
  start(name: string, program: string, args: readonly string[]): Daemon {
    const daemon = new Daemon(name, program, args, join(this.folder, `${name}.log`));
    this.#daemons.push(daemon);
    return daemon;
  }

  /** A program that was started, by name. */
  daemon(name: string): Daemon {
    const daemon = this.#daemons.find((candidate) => candidate.name === name);
    if (daemon === undefined) throw new Error(`${name} does not run`);
    return daemon;
  }

  /** Ends every program and removes the folder. */
  async stop(): Promise<void> {
    for (const daemon of this.#daemons.splice(0).reverse()) await daemon.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

async function ports(): Promise<Ports> {
  const [etcd, etcdPeer, api, controllers, scheduler, kwok] = await Promise.all(Array.from({ length: 6 }, freePort));
  return { etcd, etcdPeer, api, controllers, scheduler, kwok } as Ports;
}

function programsOf(options: ControlPlaneOptions): Program[] {
  return [
    'etcd',
    'kube-apiserver',
    'kubectl',
    'helm',
    ...(options.controllers === true ? (['kube-controller-manager'] as const) : []),
    ...(options.scheduler === true ? (['kube-scheduler'] as const) : []),
    ...((options.kwok ?? false) === false ? [] : (['kwok'] as const)),
  ];
}

/**
 * Starts a control plane and waits until it answers. Missing programs are built first, which takes minutes once.
 * Throws with the end of the log of what did not start.
 */
export async function startControlPlane(options: ControlPlaneOptions = {}): Promise<ControlPlane> {
  const programs = await ensurePrograms(programsOf(options));
  const folder = options.folder ?? mkdtempSync(join(tmpdir(), 'guildhall-k8s-'));
  mkdirSync(join(folder, 'home'), { recursive: true });
  const taken = await ports();
  const credentials = await makeCredentials(folder, options.advertise === undefined ? [] : [options.advertise]);
  const cluster = new ControlPlane(folder, `https://127.0.0.1:${taken.api}`, credentials, programs);
  try {
    await startParts(cluster, taken, options);
  } catch (err) {
    await cluster.stop();
    throw err;
  }
  return cluster;
}

async function startParts(cluster: ControlPlane, taken: Ports, options: ControlPlaneOptions): Promise<void> {
  const say = options.say ?? ((): void => undefined);
  const core = cluster.kubeConfig().makeApiClient(CoreV1Api);
  const begun = performance.now();
  const up = async (program: Program, flags: string[], check: () => Promise<boolean>): Promise<void> => {
    await cluster.start(program, cluster.program(program), flags).ready(check, START_LIMIT_MS);
    say(`${program} is up after ${((performance.now() - begun) / 1000).toFixed(1)} s`);
  };
  const healthy = (url: string) => async (): Promise<boolean> => (await fetch(url)).ok;
  await up('etcd', etcdFlags(cluster.folder, taken), healthy(`http://127.0.0.1:${taken.etcd}/readyz`));
  const flags = apiFlags(cluster.credentials, taken, options.advertise ?? null);
  // The namespace comes last: an API server that answers before it exists would fail the first test.
  await up('kube-apiserver', flags, async () => {
    await core.readNamespace({ name: 'default' });
    // What starts next waits only 10 s for it to be healthy, and ends.
    return await new Health(cluster.kubeConfig()).readyz({});
  });
  // The controllers serve health over TLS with a certificate of their own: what they do is looked at instead.
  const done = (): Promise<boolean> => Promise.resolve(true);
  if (options.controllers === true) {
    await up(
      'kube-controller-manager',
      controllerFlags(cluster.kubeconfigFile, cluster.credentials, taken),
      async () => {
        await core.readNamespacedServiceAccount({ namespace: 'default', name: 'default' });
        return true;
      },
    );
  }
  if (options.scheduler === true) await up('kube-scheduler', schedulerFlags(cluster.kubeconfigFile, taken), done);
  if ((options.kwok ?? false) !== false) {
    const stages = typeof options.kwok === 'object' ? options.kwok.stages : STAGES;
    await up(
      'kwok',
      kwokFlags(cluster.kubeconfigFile, stages, taken),
      healthy(`http://127.0.0.1:${taken.kwok}/healthz`),
    );
  }
}
