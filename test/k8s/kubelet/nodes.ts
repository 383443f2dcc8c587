import {
  CoordinationV1Api,
  type CoreV1Api,
  type KubeConfig,
  PatchStrategy,
  setHeaderOptions,
  type V1Node,
  V1MicroTime,
} from '@kubernetes/client-node';
import type { Clock, Timer } from '@guildhall/common';

const RENEW_MS = 2_000;
const LEASE_SECONDS = 10;
const LEASES = 'kube-node-lease';

/** A node of the bench. */
export interface NodeSpec {
  name: string;
  ip: string;
  zone: string;
  cpu: string;
  memory: string;
  podRange: string;
  labels: Record<string, string>;
  /** Port of the kubelet's HTTPS server, for logs. */
  port: number;
}

/** Registers a node and keeps it Ready: a Lease every two seconds, and the status when it changes. */
export class NodeHeartbeat {
  readonly #spec: NodeSpec;
  readonly #core: CoreV1Api;
  readonly #coordination: CoordinationV1Api;
  readonly #clock: Clock;
  #timer: Timer | null = null;

  constructor(spec: NodeSpec, config: KubeConfig, core: CoreV1Api, clock: Clock) {
    this.#spec = spec;
    this.#core = core;
    this.#coordination = config.makeApiClient(CoordinationV1Api);
    this.#clock = clock;
  }

  async start(): Promise<void> {
    const body = this.#object();
    const known = await this.#core.readNode({ name: this.#spec.name }).catch(() => null);
    if (known === null) await this.#core.createNode({ body });
    await this.#renew();
    await this.#core.patchNodeStatus(
      { name: this.#spec.name, body: { status: body.status } },
      setHeaderOptions('Content-Type', PatchStrategy.StrategicMergePatch),
    );
    this.#timer = this.#clock.setInterval(RENEW_MS, () => void this.#renew().catch(() => undefined));
  }

  /** The node says nothing any more. */
  stop(): void {
    this.#timer?.cancel();
    this.#timer = null;
  }

  async #renew(): Promise<void> {
    const { name } = this.#spec;
    const spec = {
      holderIdentity: name,
      leaseDurationSeconds: LEASE_SECONDS,
      renewTime: new V1MicroTime(this.#clock.nowMs()),
    };
    await this.#coordination
      .patchNamespacedLease(
        { name, namespace: LEASES, body: { spec } },
        setHeaderOptions('Content-Type', PatchStrategy.MergePatch),
      )
      .catch(async (error: { code?: number }) => {
        if (error.code !== 404) throw error;
        await this.#coordination.createNamespacedLease({ namespace: LEASES, body: { metadata: { name }, spec } });
      });
  }

  #object(): V1Node {
    const { name, ip, zone, cpu, memory, podRange, labels, port } = this.#spec;
    const now = new Date(this.#clock.nowMs());
    const resources = { cpu, memory, pods: '110', 'ephemeral-storage': '50Gi' };
    const healthy = { status: 'False', lastHeartbeatTime: now, lastTransitionTime: now };
    return {
      metadata: {
        name,
        labels: {
          'kubernetes.io/hostname': name,
          'kubernetes.io/os': 'linux',
          'kubernetes.io/arch': process.arch === 'x64' ? 'amd64' : process.arch,
          'topology.kubernetes.io/zone': zone,
          ...labels,
        },
      },
      spec: { podCIDR: podRange, podCIDRs: [podRange] },
      status: {
        capacity: resources,
        allocatable: resources,
        addresses: [
          { type: 'InternalIP', address: ip },
          { type: 'Hostname', address: name },
        ],
        daemonEndpoints: { kubeletEndpoint: { Port: port } },
        conditions: [
          ...['MemoryPressure', 'DiskPressure', 'PIDPressure'].map((type) => ({ type, ...healthy })),
          { type: 'Ready', ...healthy, status: 'True', reason: 'KubeletReady' },
        ],
        nodeInfo: {
          kubeletVersion: 'v0.0.0-guildhall-bench',
          operatingSystem: 'linux',
          architecture: process.arch === 'x64' ? 'amd64' : process.arch,
          containerRuntimeVersion: 'runc',
          kernelVersion: '',
          osImage: 'process kubelet',
          bootID: '',
          machineID: name,
          systemUUID: name,
          kubeProxyVersion: '',
        },
      },
    };
  }
}
