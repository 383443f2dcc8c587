import type { Redis } from 'ioredis';
import { systemClock } from '../clock.ts';
import { fail } from '../errors.ts';
import { connectRedis } from '../redis/client.ts';
import { eventually } from './eventually.ts';
import { RedisServer } from './redis-server.ts';
import { silentLogger } from './silent-logger.ts';

const SLOTS = 16_384;
const NODES = 3;

/** A node of a cluster, with a connection of the test's own. */
export interface RedisClusterNode {
  server: RedisServer;
  redis: Redis;
  id: string;
}

/** A real Redis Cluster of three masters, each with a third of the slots. */
export class RedisNodes {
  readonly nodes: RedisClusterNode[] = [];

  static async start(flags: readonly string[] = []): Promise<RedisNodes> {
    const cluster = new RedisNodes();
    for (let i = 0; i < NODES; i++) await cluster.#add(flags);
    for (const [i, { redis }] of cluster.nodes.entries()) {
      const [first, end] = [Math.ceil((SLOTS * i) / NODES), Math.ceil((SLOTS * (i + 1)) / NODES) - 1];
      await redis.call('CLUSTER', 'ADDSLOTSRANGE', first, end);
      await redis.call('CLUSTER', 'MEET', '127.0.0.1', cluster.first.server.port);
    }
    await cluster.#agreed();
    return cluster;
  }

  get first(): RedisClusterNode {
    const [node] = this.nodes;
    if (node === undefined) throw fail('internal', 'the cluster has no nodes');
    return node;
  }

  /** URL with one seed, so that the others must be found. */
  get url(): string {
    return `redis-cluster://127.0.0.1:${this.first.server.port}`;
  }

  async #add(flags: readonly string[]): Promise<RedisClusterNode> {
    const cluster = ['--cluster-enabled', 'yes', '--cluster-node-timeout', '1000', '--repl-diskless-sync-delay', '0'];
    const server = await RedisServer.start([...flags, ...cluster]);
    const redis = connectRedis(server.url, { logger: silentLogger(), clock: systemClock });
    const id = await eventually(() => redis.call('CLUSTER', 'MYID').catch(() => null), 'a node to answer');
    const node = { server, redis, id: String(id) };
    this.nodes.push(node);
    return node;
  }

  async #agreed(): Promise<void> {
    for (const { redis } of this.nodes)
      await eventually(
        async () => {
          const info = String(await redis.call('CLUSTER', 'INFO'));
          return info.includes('cluster_state:ok') && info.includes(`cluster_known_nodes:${this.nodes.length}`);
        },
        'the nodes to agree',
        20_000,
      );
  }

  async slotOf(key: string): Promise<number> {
    return Number(await this.first.redis.call('CLUSTER', 'KEYSLOT', key));
  }

  /** The master of a slot, as the first living node says. */
  async ownerOf(slot: number): Promise<RedisClusterNode> {
    for (const { redis } of this.nodes) {
      const ranges = await redis.call('CLUSTER', 'SLOTS').catch(() => null);
      if (ranges === null) continue;
      const range = (ranges as [number, number, [string, number]][]).find(([a, b]) => a <= slot && slot <= b);
      const found = this.nodes.find(({ server }) => server.port === range?.[2][1]);
      if (found !== undefined) return found;
    }
    throw fail('internal', `no node owns slot ${slot}`);
  }

  /** Adds a replica of a node. */
  async replicate(master: RedisClusterNode): Promise<RedisClusterNode> {
    const node = await this.#add([]);
    await node.redis.call('CLUSTER', 'MEET', '127.0.0.1', master.server.port);
    await eventually(
      () =>
        node.redis.call('CLUSTER', 'REPLICATE', master.id).then(
          () => true,
          () => false,
        ),
      'the replica to know its master',
    );
    await eventually(async () => (await node.redis.info('replication')).includes('master_link_status:up'), 'the copy');
    await this.#agreed();
    return node;
  }

  /** Begins to move a slot and moves `share` of its keys; `finishMove` does the rest. */
  async beginMove(slot: number, from: RedisClusterNode, to: RedisClusterNode, share: number): Promise<void> {
    await to.redis.call('CLUSTER', 'SETSLOT', slot, 'IMPORTING', from.id);
    await from.redis.call('CLUSTER', 'SETSLOT', slot, 'MIGRATING', to.id);
    await this.#moveKeys(slot, from, to, share);
  }

  async finishMove(slot: number, from: RedisClusterNode, to: RedisClusterNode): Promise<void> {
    await eventually(async () => {
      await this.#moveKeys(slot, from, to, 1);
      return Number(await from.redis.call('CLUSTER', 'COUNTKEYSINSLOT', slot)) === 0;
    }, 'the keys to move');
    for (const { redis } of [to, from]) await redis.call('CLUSTER', 'SETSLOT', slot, 'NODE', to.id);
  }

  async #moveKeys(slot: number, from: RedisClusterNode, to: RedisClusterNode, share: number): Promise<void> {
    const keys = (await from.redis.call('CLUSTER', 'GETKEYSINSLOT', slot, 1000)) as string[];
    const moved = keys.toSorted().slice(0, Math.ceil(keys.length * share));
    if (moved.length > 0)
      await from.redis.call('MIGRATE', '127.0.0.1', to.server.port, '', 0, 5000, 'REPLACE', 'KEYS', ...moved);
  }

  /** Ends everything. */
  async stop(): Promise<void> {
    for (const { redis, server } of this.nodes) {
      redis.disconnect();
      await server.stop();
    }
  }
}
