import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CoreV1Api } from '@kubernetes/client-node';
import { ensurePrograms } from './binaries/index.ts';
import { type ControlPlane, startControlPlane } from './control-plane/cluster.ts';
import { freePort } from './control-plane/daemon.ts';
import { attempt, run } from './kubelet/command.ts';
import { ImageTable } from './kubelet/images.ts';
import { ProcessKubelet } from './kubelet/kubelet.ts';
import { startLogServer } from './kubelet/log-server.ts';
import { nodeIP, POD_RANGE, prepareNodeNetwork, removeNodeNetwork } from './kubelet/network.ts';
import { startProvisioner } from './kubelet/provisioner.ts';

/** A whole cluster on this machine: control plane, Services, and nodes that run pods as containers. */
export interface Bench {
  cluster: ControlPlane;
  kubelet: ProcessKubelet;
  images: ImageTable;
  /** Folder with the output of every container. */
  logs: string;
  stop(): Promise<void>;
}

export interface BenchOptions {
  /** Folder for the output of containers and of the control plane. It is kept. */
  logs: string;
  nodes?: number;
  /** kwok beside the process nodes, for nodes that do not exist. */
  kwok?: boolean;
  say?: (line: string) => void;
}

const FOLDER = '/run/guildhall-k8s';
const CGROUPS = '/sys/fs/cgroup';
const CGROUP_PREFIX = 'guildhall-k8s-';

/** Groups of earlier benches have no processes left, because those end with their sandbox; the empty folders stay. */
function removeCgroups(): void {
  const below = (folder: string): void => {
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      if (entry.isDirectory()) below(join(folder, entry.name));
    }
    try {
      rmdirSync(folder);
    } catch {
      // A bench that runs now has processes in it.
    }
  };
  const ours = (folder: string): string[] =>
    readdirSync(folder, { withFileTypes: true })
      .filter((entry) => entry.isDirectory() && entry.name.startsWith(CGROUP_PREFIX))
      .map((entry) => join(folder, entry.name));
  const controllers = readdirSync(CGROUPS, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  for (const folder of [CGROUPS, ...controllers.map(({ name }) => join(CGROUPS, name))]) ours(folder).forEach(below);
}

async function startProxy(cluster: ControlPlane, program: string): Promise<void> {
  const [health, metrics] = [await freePort(), await freePort()];
  const config = {
    apiVersion: 'kubeproxy.config.k8s.io/v1alpha1',
    kind: 'KubeProxyConfiguration',
    mode: 'nftables',
    hostnameOverride: 'proc-0',
    clusterCIDR: POD_RANGE,
    clientConnection: { kubeconfig: cluster.kubeconfigFile, qps: 50, burst: 100 },
    healthzBindAddress: `127.0.0.1:${health}`,
    metricsBindAddress: `127.0.0.1:${metrics}`,
    // These settings belong to the machine, not to a network namespace: they stay as they are.
    conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: '0s', tcpCloseWaitTimeout: '0s' },
    nftables: { minSyncPeriod: '100ms', syncPeriod: '30s' },
  };
  const file = join(cluster.folder, 'kube-proxy.json');
  writeFileSync(file, JSON.stringify(config));
  const proxy = cluster.start('kube-proxy', program, [`--config=${file}`]);
  await proxy.ready(async () => (await fetch(`http://127.0.0.1:${health}/healthz`)).ok, 60_000);
}

/** Makes room for another bench in the same sandbox. */
async function leaveNode(): Promise<void> {
  await removeNodeNetwork();
  await attempt('umount', ['--lazy', '/run']);
}

/**
 * Starts a cluster in the sandbox that this process is the first of (`runInSandbox`): it takes names and addresses as if
 * nobody else were there, and all of it ends with this process.
 */
export async function startBench(options: BenchOptions): Promise<Bench> {
  const { logs, nodes = 2, say = () => undefined } = options;
  if (process.env['GUILDHALL_SANDBOX'] === undefined) {
    throw new Error('a bench runs in a sandbox only; run: node test/k8s/main.ts sandbox -- COMMAND');
  }
  const programs = await ensurePrograms(['kube-proxy']);
  // A file system in memory: names of network namespaces, bundles and volumes end with the sandbox.
  await run('mount', ['-t', 'tmpfs', 'tmpfs', '/run']);
  mkdirSync('/run/netns');
  mkdirSync(FOLDER);
  mkdirSync(logs, { recursive: true });
  removeCgroups();
  await prepareNodeNetwork(nodes);
  const cluster = await startControlPlane({
    controllers: true,
    scheduler: true,
    kwok: options.kwok ?? false,
    advertise: nodeIP(0),
    folder: join(FOLDER, 'control-plane'),
    say,
  });
  const config = cluster.kubeConfig();
  const images = new ImageTable();
  const port = await freePort();
  const kubelet = await ProcessKubelet.start({
    config,
    images,
    nodes,
    folder: FOLDER,
    logs,
    cgroup: `/${CGROUP_PREFIX}${randomBytes(4).toString('hex')}`,
    port,
  });
  const { certificateFile, keyFile } = cluster.credentials;
  const tls = { cert: readFileSync(certificateFile, 'utf8'), key: readFileSync(keyFile, 'utf8') };
  const server = await startLogServer(kubelet, port, tls);
  await startProxy(cluster, programs['kube-proxy']);
  const abort = new AbortController();
  await startProvisioner(config, config.makeApiClient(CoreV1Api), join(FOLDER, 'disks'), abort.signal);
  say(`${nodes} nodes are ready`);
  return {
    cluster,
    kubelet,
    images,
    logs,
    stop: async () => {
      abort.abort();
      await kubelet.stop();
      server.close();
      await cluster.stop();
      removeCgroups();
      await leaveNode();
    },
  };
}
