import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { CoreV1Api, type KubeConfig, type V1Pod } from '@kubernetes/client-node';
import { type Clock, systemClock } from '@guildhall/common';
import type { ImageTable } from './images.ts';
import { machineMemory, nodeIP, PodNetwork } from './network.ts';
import { ClusterState, keepInformed } from './node-state.ts';
import { NodeHeartbeat, type NodeSpec } from './nodes.ts';
import { type NodeServices, PodWorker } from './pod.ts';

/** What the nodes of the bench are. */
export interface KubeletOptions {
  config: KubeConfig;
  images: ImageTable;
  nodes: number;
  /** Folder in memory for bundles and volumes. */
  folder: string;
  logs: string;
  cgroup: string;
  /** Port of the server that `kubectl logs` asks. */
  port: number;
  /** Cores that each node says it has; more than there are, so that requests of a laptop's profile fit. */
  cpu?: string;
  clock?: Clock;
}

interface ProcessNode {
  spec: NodeSpec;
  services: NodeServices;
  heartbeat: NodeHeartbeat;
  pods: Map<string, PodWorker>;
  lost: boolean;
}

const HOSTS_DELAY_MS = 20;

/**
 * The kubelet of the bench: it runs the pods that the scheduler binds to its nodes as real containers on this machine and
 * reports their status, with the probes, hooks, grace periods and restarts that their specs ask for.
 */
export class ProcessKubelet {
  readonly #core: CoreV1Api;
  readonly #clock: Clock;
  readonly #abort = new AbortController();
  readonly #nodes = new Map<string, ProcessNode>();
  readonly #state: ClusterState;
  #hostsPending = false;

  private constructor(core: CoreV1Api, clock: Clock, state: ClusterState) {
    this.#core = core;
    this.#clock = clock;
    this.#state = state;
  }

  static async start(options: KubeletOptions): Promise<ProcessKubelet> {
    const core = options.config.makeApiClient(CoreV1Api);
    const clock = options.clock ?? systemClock;
    const abort = new AbortController();
    const state = await ClusterState.start(options.config, abort.signal);
    const kubelet = new ProcessKubelet(core, clock, state);
    abort.signal.addEventListener('abort', () => undefined);
    for (let index = 0; index < options.nodes; index += 1) await kubelet.#addNode(index, options);
    state.onServices(() => kubelet.#hostsChanged());
    state.onContents((namespace) => kubelet.#contentsChanged(namespace));
    await kubelet.#watchPods(options.config);
    return kubelet;
  }

  async #addNode(index: number, options: KubeletOptions): Promise<void> {
    const name = `proc-${index}`;
    const memory = `${Math.floor((await machineMemory()) / options.nodes / 2 ** 20)}Mi`;
    const spec: NodeSpec = {
      name,
      ip: nodeIP(index),
      zone: `zone-${index}`,
      cpu: options.cpu ?? '16',
      memory,
      podRange: `10.244.${index + 1}.0/24`,
      labels: { 'guildhall.dev/bench': 'process' },
      port: options.port,
    };
    const folder = join(options.folder, name);
    await mkdir(folder, { recursive: true });
    const services: NodeServices = {
      name,
      ip: spec.ip,
      resources: { cpu: spec.cpu, memory },
      clock: this.#clock,
      core: this.#core,
      images: options.images,
      network: new PodNetwork(index),
      state: this.#state,
      folder,
      logs: options.logs,
      cgroup: options.cgroup,
      event: (pod, type, reason, message) => this.#event(name, pod, type, reason, message),
    };
    const heartbeat = new NodeHeartbeat(spec, options.config, this.#core, this.#clock);
    await heartbeat.start();
    this.#nodes.set(name, { spec, services, heartbeat, pods: new Map(), lost: false });
  }

  async #watchPods(config: KubeConfig): Promise<void> {
    const informer = await keepInformed(
      config,
      '/api/v1/pods',
      () => this.#core.listPodForAllNamespaces(),
      this.#abort.signal,
      this.#clock,
    );
    informer.on('change', (pod) => this.#seen(pod));
    informer.on('delete', (pod) => this.#gone(pod));
    for (const pod of informer.list()) this.#seen(pod);
  }

  #seen(pod: V1Pod): void {
    const node = this.#nodes.get(pod.spec?.nodeName ?? '');
    const uid = pod.metadata?.uid ?? '';
    if (node === undefined || node.lost) return;
    const known = node.pods.get(uid);
    if (known !== undefined) return known.update(pod);
    if (pod.status?.phase === 'Succeeded' || pod.status?.phase === 'Failed') return;
    const worker = new PodWorker(pod, node.services);
    node.pods.set(uid, worker);
    worker.start();
    worker.update(pod);
  }

  /** The object is gone: with the end that this kubelet reported, or by force. */
  #gone(pod: V1Pod): void {
    const node = this.#nodes.get(pod.spec?.nodeName ?? '');
    const worker = node?.pods.get(pod.metadata?.uid ?? '');
    if (node === undefined || worker === undefined) return;
    void worker.end(0, false).finally(() => node.pods.delete(worker.uid));
  }

  #hostsChanged(): void {
    if (this.#hostsPending) return;
    this.#hostsPending = true;
    this.#clock.setTimer(HOSTS_DELAY_MS, () => {
      this.#hostsPending = false;
      for (const worker of this.pods()) void worker.refreshHosts();
    });
  }

  #contentsChanged(namespace: string): void {
    for (const worker of this.pods()) if (worker.namespace === namespace) void worker.refreshVolumes();
  }

  #event(host: string, pod: V1Pod, type: 'Normal' | 'Warning', reason: string, message: string): void {
    const { name = '', namespace = '', uid } = pod.metadata ?? {};
    const now = new Date(this.#clock.nowMs());
    const body = {
      metadata: { generateName: `${name}.`, namespace },
      involvedObject: { apiVersion: 'v1', kind: 'Pod', name, namespace, ...(uid === undefined ? {} : { uid }) },
      type,
      reason,
      message: message.slice(0, 1000),
      source: { component: 'kubelet', host },
      firstTimestamp: now,
      lastTimestamp: now,
      count: 1,
    };
    this.#core.createNamespacedEvent({ namespace, body }).catch(() => undefined);
  }

  /** Pods that run, of all nodes. */
  pods(): PodWorker[] {
    return [...this.#nodes.values()].flatMap(({ pods }) => [...pods.values()]);
  }

  /** A pod by its name. Throws when no node has it. */
  pod(namespace: string, name: string): PodWorker {
    const found = this.pods().find((worker) => worker.namespace === namespace && worker.name === name);
    if (found === undefined) throw new Error(`no node runs pod ${namespace}/${name}`);
    return found;
  }

  /** A machine is lost: its processes end, and it says nothing any more. */
  async loseNode(name: string): Promise<void> {
    const node = this.#nodes.get(name);
    if (node === undefined) throw new Error(`no node ${name}`);
    node.lost = true;
    node.heartbeat.stop();
    await Promise.all([...node.pods.values()].map((worker) => worker.crash()));
    node.pods.clear();
  }

  /** A lost machine is back, without its pods. */
  async returnNode(name: string): Promise<void> {
    const node = this.#nodes.get(name);
    if (node === undefined) throw new Error(`no node ${name}`);
    node.lost = false;
    await node.heartbeat.start();
  }

  /** Ends all pods at once; their objects stay. */
  async stop(): Promise<void> {
    this.#abort.abort();
    for (const { heartbeat } of this.#nodes.values()) heartbeat.stop();
    await Promise.all(this.pods().map((worker) => worker.crash()));
  }
}
