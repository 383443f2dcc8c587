import { createConnection, type Socket } from 'node:net';
import { connect as connectTls, type ConnectionOptions, type TLSSocket } from 'node:tls';
import { AbstractConnector, Redis, type RedisOptions } from 'ioredis';
import { systemClock } from '../clock.ts';
import { errorMessage, fail } from '../errors.ts';
import type { RedisNode } from './address.ts';

/** Options of ioredis, without one that decides about the types of its answers. */
export type RedisSettings = Omit<RedisOptions, 'replyMapping'>;

/** What a connector to the owner of a slot needs beside ioredis's own options. */
export interface SlotConnectorOptions {
  /** Nodes to ask for the others. */
  seeds: readonly RedisNode[];
  /** A key of the slot that is wanted. */
  key: string;
  /** How nodes are asked: credentials, TLS, time-outs. */
  ask: RedisSettings;
  tls: ConnectionOptions | null;
  /** Milliseconds before the given attempt after the first. */
  retryDelay: (times: number) => number;
}

/** Nodes of the cluster that are remembered beside the seeds. */
const MAX_KNOWN = 64;
const DISCONNECT_MS = 2000;

/** A range of slots as `CLUSTER SLOTS` tells it: first, last, its master, its replicas. */
type SlotRange = [number, number, ...[string | null, number, ...unknown[]][]];

/**
 * Connects ioredis to the node of a Redis Cluster that owns one slot. All keys of a Guildhall cluster share a hash tag and
 * so a slot: one connection to one node is all there is to route, and outages, time-outs and subscriptions are those of a
 * single server. The owner is looked up at each connection; a `MOVED` answer ends the connection.
 */
export function slotConnector(options: SlotConnectorOptions): new (unused: unknown) => AbstractConnector {
  // Shared by a client and its duplicates.
  const known = new KnownNodes(options.seeds);
  return class extends AbstractConnector {
    protected override connecting = false;

    constructor() {
      super(DISCONNECT_MS);
    }

    override async connect(report: (type: string, err: Error) => void): Promise<Socket | TLSSocket> {
      this.connecting = true;
      const owner = await this.#search((err) => report('error', err));
      const stream = options.tls === null ? createConnection({ ...owner }) : connectTls({ ...owner, ...options.tls });
      // ioredis reports it when the stream closes.
      stream.once('error', (err) => (this.firstError = err));
      this.stream = stream;
      return stream;
    }

    /** ioredis gives up for good when this fails, so it goes on until somebody disconnects. */
    async #search(report: (err: Error) => void): Promise<RedisNode> {
      for (let times = 1; ; times++) {
        const found = await findOwner(options, known).catch((err: unknown) => err as Error);
        if (!this.connecting) throw fail('cancelled', 'disconnected while the Redis Cluster was asked');
        if (!(found instanceof Error)) return found;
        report(found);
        await systemClock.sleep(options.retryDelay(times));
      }
    }
  };
}

/** Seeds and what the cluster told of itself; asked in turn, so that one that is cut off is not asked for ever. */
class KnownNodes {
  readonly #seeds: readonly RedisNode[];
  #learned: RedisNode[] = [];
  #turn = 0;

  constructor(seeds: readonly RedisNode[]) {
    this.#seeds = seeds;
  }

  /** All of them, beginning with another one each time. */
  inTurn(): RedisNode[] {
    const nodes = [...this.#seeds, ...this.#learned];
    const first = this.#turn++ % nodes.length;
    return [...nodes.slice(first), ...nodes.slice(0, first)];
  }

  learn(nodes: readonly RedisNode[]): void {
    const isSeed = (node: RedisNode): boolean =>
      this.#seeds.some(({ host, port }) => host === node.host && port === node.port);
    this.#learned = nodes.filter((node) => !isSeed(node)).slice(0, MAX_KNOWN);
  }
}

async function findOwner(options: SlotConnectorOptions, known: KnownNodes): Promise<RedisNode> {
  let last: unknown = null;
  for (const node of known.inTurn()) {
    try {
      return await askNode(node, options, known);
    } catch (err) {
      last = err;
    }
  }
  // As it is, so that a refused password is told from a cluster that is away.
  throw last instanceof Error ? last : fail('redis_unavailable', errorMessage(last));
}

async function askNode(node: RedisNode, { key, ask }: SlotConnectorOptions, known: KnownNodes): Promise<RedisNode> {
  const settings: RedisSettings = { ...ask, ...node, lazyConnect: true, retryStrategy: null };
  const redis = new Redis(settings);
  let refusal: Error | null = null;
  redis.on('error', (err: Error) => (refusal = err));
  try {
    await redis.connect();
    const slot = Number(await redis.call('CLUSTER', 'KEYSLOT', key));
    const ranges = (await redis.call('CLUSTER', 'SLOTS')) as SlotRange[];
    const nodes = ranges.flatMap(([, , ...holders]) =>
      holders.map(([host, port]) => ({ host: host || node.host, port })),
    );
    known.learn(nodes);
    const range = ranges.find(([first, end]) => first <= slot && slot <= end);
    if (range?.[2] === undefined) throw fail('redis_unavailable', `no node of the Redis Cluster serves slot ${slot}`);
    const [host, port] = range[2];
    // A node that does not know its own name leaves it out.
    return { host: host === null || host === '' || host === '?' ? node.host : host, port };
  } catch (err) {
    throw refusal ?? err;
  } finally {
    redis.disconnect();
  }
}
