import {
  bindGrpcServer,
  channelCredentials,
  createGrpcServer,
  createMetrics,
  type Metrics,
  shutDownGrpcServer,
  systemClock,
} from '@guildhall/common';
import { silentLogger } from '@guildhall/common/testing';
import { Checkpoint, CheckpointFiles, ExpertBytes, expertRanges } from '@guildhall/model/weights';
import { loadNative } from '@guildhall/native';
import { weights } from '@guildhall/proto';
import { Metadata, type Server } from '@grpc/grpc-js';
import type { Neighbour } from '../weights/neighbours.ts';
import { Peers } from '../weights/peers.ts';
import { weightsRpc, type WeightsRpcOptions } from '../weights/rpc.ts';
import type { Checksum } from '../weights/wire.ts';

export const NO_TLS = { tlsCert: null, tlsKey: null, tlsCa: null };

export const crc32c: Checksum = (parts) => loadNative().crc32c(parts);

/** Real servers of the Weights service in this process, and a client of them. */
export class WeightsRig {
  readonly checkpoint: Checkpoint;
  readonly metrics: Metrics = createMetrics('expert');
  readonly #servers: Server[] = [];
  readonly #clients: { close(): void }[] = [];

  constructor(model: string) {
    this.checkpoint = Checkpoint.open(model);
  }

  /** The service of a worker with the checkpoint; returns its address. */
  share(change: Partial<WeightsRpcOptions> = {}): Promise<string> {
    return this.serve(
      weightsRpc({
        fingerprint: this.checkpoint.fingerprint,
        files: new CheckpointFiles(this.checkpoint),
        stored: () => null,
        read: (layer, expert) => ExpertBytes.read(this.checkpoint, layer, expert),
        checksum: crc32c,
        clock: systemClock,
        metrics: this.metrics,
        logger: silentLogger(),
        maxTransfers: 4,
        maxMessageBytes: 4 << 20,
        readerLimitMs: 30_000,
        ...change,
      }),
    );
  }

  async serve(service: weights.WeightsServer): Promise<string> {
    const server = createGrpcServer({ ...NO_TLS, clusterToken: null }, { maxMessageBytes: 4 << 20 });
    this.#servers.push(server);
    server.addService(weights.WeightsService, service);
    return bindGrpcServer(server, '127.0.0.1:0');
  }

  client(address: string): weights.WeightsClient {
    const client = new weights.WeightsClient(address, channelCredentials(NO_TLS));
    this.#clients.push(client);
    return client;
  }

  /** Peers that are asked in the order in which they are given. */
  peers(stallMs = 20_000, busyLimitMs = 0): Peers {
    let place = 0;
    const peers = new Peers({
      credentials: channelCredentials(NO_TLS),
      metadata: new Metadata(),
      checksum: crc32c,
      clock: systemClock,
      logger: silentLogger(),
      stallMs,
      busyLimitMs,
      random: () => place++ / 1e6,
    });
    this.#clients.push(peers);
    return peers;
  }

  /** Fetches one expert as a worker does. */
  fetch(
    peers: Peers,
    addresses: readonly string[],
    { layer = 1, expert = 2, signal = new AbortController().signal } = {},
  ): Promise<ExpertBytes> {
    const { checkpoint } = this;
    const ranges = expertRanges(checkpoint, layer, expert);
    return peers.fetch(addresses.map(supplier), { layer, expert }, ranges, {
      fingerprint: checkpoint.fingerprint,
      signal,
      paced: () => Promise.resolve(),
      check: (bytes) => bytes.checkAgainst(checkpoint),
    });
  }

  /** Value of a counter. */
  async count(name: string, labels: string): Promise<number> {
    const { body } = await this.metrics.render();
    const line = body.split('\n').find((text) => text.startsWith(`${name}{${labels}}`));
    return Number(line?.split(' ')[1] ?? 0);
  }

  async stop(): Promise<void> {
    for (const client of this.#clients) client.close();
    await Promise.all(this.#servers.map((server) => shutDownGrpcServer(server, 0)));
  }
}

/** A worker at an address that says it has everything. */
function supplier(address: string): Neighbour {
  return { id: address, address, numericsId: '', serves: true, stored: null, held: new Set() };
}
