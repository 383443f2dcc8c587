import assert from 'node:assert/strict';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { CoreV1Api } from '@kubernetes/client-node';
import { Cluster, type MemberLease, newIncarnation, systemClock } from '@guildhall/common';
import { eventually, RedisServer, silentLogger } from '@guildhall/common/testing';
import { control } from '@guildhall/proto';
import { parseAllDocuments } from 'yaml';
import { type ControlPlane, fakeNode } from '../index.ts';

const CHART = fileURLToPath(new URL('../../../charts/guildhall', import.meta.url));
/** Layers and experts of the model that the workers of these tests say they serve. */
export const LAYERS = 2;
export const EXPERTS = 8;

interface Manifest {
  kind: string;
  metadata: { name: string; labels?: Record<string, string> };
  spec?: { template?: { spec: { containers: { env?: { name: string; value?: string }[] }[] } } };
}

/** A release of the chart on fake nodes: its pods do nothing, and the test plays what runs in them. */
export class Release {
  readonly name: string;
  readonly plane: ControlPlane;
  readonly redis: RedisServer;
  /** What the release's processes call their cluster. */
  readonly clusterName: string;
  readonly cluster: Cluster;
  readonly #closing: (() => unknown)[] = [];

  private constructor(name: string, plane: ControlPlane, redis: RedisServer, clusterName: string) {
    this.name = name;
    this.plane = plane;
    this.redis = redis;
    this.clusterName = clusterName;
    this.cluster = new Cluster({ redis: redis.url, cluster: clusterName, clock: systemClock, logger: silentLogger() });
    this.#closing.push(
      () => redis.stop(),
      () => this.cluster.close(),
    );
  }

  get fullname(): string {
    return `${this.name}-guildhall`;
  }

  get experts(): string {
    return `${this.fullname}-expert-all`;
  }

  get routers(): string {
    return `${this.fullname}-router`;
  }

  static async install(plane: ControlPlane, name: string, replicas: number): Promise<Release> {
    const values = `expertGroups[0].name=all,expertGroups[0].replicas=${replicas}`;
    const rendered = await plane.helm(['template', name, CHART, '--set', values]);
    assert.equal(rendered.code, 0, rendered.stderr);
    const manifests = parseAllDocuments(rendered.stdout).map((one) => one.toJS() as Manifest | null);
    const controller = manifests.find((one) => one?.kind === 'Deployment' && one.metadata.name.endsWith('-controller'));
    const env = controller?.spec?.template?.spec.containers[0]?.env ?? [];
    const clusterName = env.find((one) => one.name === 'GUILDHALL_CLUSTER')?.value ?? '';
    const release = new Release(name, plane, await RedisServer.start(), clusterName);
    const applied = await plane.kubectl(['apply', '-f', '-'], { input: rendered.stdout });
    assert.equal(applied.code, 0, applied.stderr);
    await release.cluster.start();
    return release;
  }

  /** Ready pods of a Deployment of it. */
  async pods(component: 'router' | 'expert'): Promise<string[]> {
    return (await this.living(component)).filter(({ ready }) => ready).map(({ name }) => name);
  }

  /** Pods that were not told to end, ready or not. */
  async living(component: 'router' | 'expert'): Promise<{ name: string; ready: boolean }[]> {
    const core = this.plane.kubeConfig().makeApiClient(CoreV1Api);
    const labelSelector = `app.kubernetes.io/instance=${this.name},app.kubernetes.io/component=${component}`;
    const { items } = await core.listNamespacedPod({ namespace: 'default', labelSelector });
    return items
      .filter(({ metadata }) => metadata?.deletionTimestamp === undefined)
      .map(({ metadata, status }) => ({
        name: metadata?.name ?? '',
        ready: status?.conditions?.some(({ type, status: is }) => type === 'Ready' && is === 'True') === true,
      }))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  readyPods(component: 'router' | 'expert', count: number): Promise<string[]> {
    return eventually(async () => {
      const pods = await this.pods(component);
      return pods.length === count ? pods : null;
    }, `${count} ready pods of ${component}`);
  }

  /** What a worker in this pod writes about itself; it takes up every placement at once. */
  async worker(id: string, slots = 1000): Promise<MemberLease> {
    const incarnation = newIncarnation();
    let acked = 0;
    let held: control.LayerHoldings[] = [];
    const value = (): Uint8Array =>
      control.Member.encode(
        control.Member.fromPartial({
          kind: control.MemberKind.MEMBER_KIND_EXPERT,
          id,
          incarnation,
          address: '127.0.0.1:1',
          modelFingerprint: 'model',
          numericsId: 'class',
          weightCapacityBytes: BigInt(slots * 10),
          expertBytes: 10n,
          ackedEpoch: BigInt(acked),
          ready: acked > 0,
          numLayers: LAYERS,
          numExperts: EXPERTS,
          holdings: held,
          node: 'a-node',
          group: 'all',
        }),
      ).finish();
    const lease = this.cluster.lease({ kind: 'expert', id, incarnation, value, onLost: () => undefined });
    const take = (placement: { epoch: number; bytes: Buffer } | null): void => {
      if (placement === null) return;
      acked = placement.epoch;
      held = holdingsOf(control.Placement.decode(placement.bytes), id);
      lease.touch();
    };
    this.#closing.push(this.cluster.placements.onChange(take));
    await lease.join();
    take(this.cluster.placements.current());
    return lease;
  }

  /** Workers of the placement in force, sorted. */
  placed(): string {
    const current = this.cluster.placements.current();
    return current === null ? '' : [...control.Placement.decode(current.bytes).workers].sort().join();
  }

  async replicas(deployment: string): Promise<number> {
    const { stdout } = await this.plane.kubectl(['get', 'deployment', deployment, '-o', 'jsonpath={.spec.replicas}']);
    return Number(stdout);
  }

  async close(): Promise<void> {
    for (const close of this.#closing.reverse()) await close();
  }
}

/** What a worker is to hold by a placement. */
export function holdingsOf(placement: control.Placement, id: string): control.LayerHoldings[] {
  const own = placement.workers.indexOf(id);
  return placement.layers.map(({ layer, counts, workers }) => {
    let at = 0;
    const experts: number[] = [];
    for (const [expert, count] of counts.entries()) {
      if (workers.slice(at, (at += count)).includes(own)) experts.push(expert);
    }
    return { layer, experts };
  });
}

/** Nodes that kwok plays, with room for everything. */
export async function addNodes(plane: ControlPlane, count: number): Promise<void> {
  const core = plane.kubeConfig().makeApiClient(CoreV1Api);
  for (let i = 0; i < count; i++) await core.createNode({ body: fakeNode({ name: `node-${i}` }) });
}

/** A TCP connection to the API server that can be cut: nothing comes through, nothing is refused. */
export class Wire {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #cut = false;

  private constructor(port: number) {
    this.#server = createServer((client) => {
      const api = connect(port, '127.0.0.1');
      this.#sockets.add(client).add(api);
      client.on('data', (bytes) => this.#cut || api.write(bytes));
      api.on('data', (bytes) => this.#cut || client.write(bytes));
      for (const [one, other] of [
        [client, api],
        [api, client],
      ] as const) {
        one.on('error', () => undefined);
        one.on('close', () => {
          this.#sockets.delete(one);
          other.destroy();
        });
      }
    });
  }

  static async start(url: string): Promise<Wire> {
    const wire = new Wire(Number(new URL(url).port));
    wire.#server.listen(0, '127.0.0.1');
    await once(wire.#server, 'listening');
    return wire;
  }

  get url(): string {
    const { port } = this.#server.address() as { port: number };
    return `https://127.0.0.1:${port}`;
  }

  cut(): void {
    this.#cut = true;
  }

  /** What was held back is lost: connections are made anew. */
  mend(): void {
    this.#cut = false;
    for (const socket of this.#sockets) socket.destroy();
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}
