import type { Server } from '@grpc/grpc-js';
import {
  authMetadata,
  channelCredentials,
  type Clock,
  type Cluster,
  type Logger,
  type Metrics,
} from '@guildhall/common';
import { CheckpointFiles, ExpertStore } from '@guildhall/model/weights';
import { loadNative } from '@guildhall/native';
import { weights } from '@guildhall/proto';
import type { ExpertConfig } from '../config.ts';
import type { Engine } from '../engine.ts';
import { LoadProblems } from '../load-problems.ts';
import type { WorkerState } from '../member.ts';
import type { Shard } from '../shard.ts';
import { LoadPace } from './load-pace.ts';
import { Neighbours } from './neighbours.ts';
import { OwnFiles } from './own-files.ts';
import { Peers } from './peers.ts';
import { weightsRpc } from './rpc.ts';
import { WeightSources } from './weight-sources.ts';

const MIB = 1 << 20;
/** Time without a byte after which a transfer from a peer is given up, milliseconds. */
const STALL_MS = 5000;
/** For so long a peer is asked again that serves as many others as it may, milliseconds. */
const BUSY_LIMIT_MS = 60_000;
/** Time after which a peer that takes nothing is cut off: it may be slower than it reads, milliseconds. */
const READER_LIMIT_MS = 30_000;
/** Time after which a disk that does not answer is given up, milliseconds. */
const DISK_LIMIT_MS = 15_000;

/** What calls to other workers for weights need. Throws `config_invalid` for TLS files that cannot be read. */
export function openPeers(config: ExpertConfig, deps: { clock: Clock; logger: Logger }): Peers {
  const native = loadNative();
  return new Peers({
    credentials: channelCredentials(config),
    metadata: authMetadata(config),
    checksum: (parts) => native.crc32c(parts),
    stallMs: STALL_MS,
    busyLimitMs: BUSY_LIMIT_MS,
    random: Math.random,
    ...deps,
  });
}

export interface WorkerWeightsOptions {
  config: ExpertConfig;
  engine: Engine;
  cluster: Cluster;
  peers: Peers;
  clock: Clock;
  logger: Logger;
  metrics: Metrics;
  /** Time since a forward waited or ran, milliseconds. */
  quietMs: () => number;
  /** Called when what the worker says about its weights has changed. */
  onChange: () => void;
}

/** A worker's weights: where they come from, what is given to others, and what is wrong with them. */
export class WorkerWeights {
  readonly sources: WeightSources;
  readonly pace: LoadPace;
  readonly problems: LoadProblems;
  readonly neighbours: Neighbours;
  readonly #o: WorkerWeightsOptions;
  readonly #files: OwnFiles;

  constructor(options: WorkerWeightsOptions) {
    this.#o = options;
    const { config, engine, cluster, peers, clock, onChange, quietMs } = options;
    const { identity, weights: reader } = engine;
    const { checkpoint } = reader;
    const { eventLog } = cluster;
    this.problems = new LoadProblems({
      id: identity.id,
      clock,
      append: (...event) => eventLog.append(...event),
      onChange,
    });
    this.neighbours = new Neighbours({ ...identity, members: cluster.members });
    this.pace = new LoadPace({ clock, quietMs, bytesPerSecond: config.loadRateMib * MIB });
    this.#files = new OwnFiles({
      checkpoint,
      clock,
      readLimitMs: DISK_LIMIT_MS,
      onChange: (problem) => {
        this.problems.set('files', problem);
        onChange();
      },
    });
    const store = config.modelFromPeers ? this.#openStore() : null;
    const { pace, neighbours } = this;
    this.sources = new WeightSources({ checkpoint, files: this.#files, store, peers, neighbours, pace });
  }

  start(): void {
    this.#files.start();
  }

  stop(): void {
    this.#files.stop();
    this.neighbours.stop();
    this.#o.peers.close();
  }

  addTo(server: Server): void {
    const { config, engine, clock, metrics, logger } = this.#o;
    server.addService(
      weights.WeightsService,
      weightsRpc({
        fingerprint: engine.identity.fingerprint,
        files: new CheckpointFiles(engine.weights.checkpoint),
        stored: () => this.sources.stored(),
        read: (layer, expert) => this.sources.readHere(layer, expert),
        checksum: (parts) => engine.native.crc32c(parts),
        clock,
        metrics,
        logger,
        maxTransfers: config.maxWeightTransfers,
        maxMessageBytes: config.maxMessageBytes,
        readerLimitMs: READER_LIMIT_MS,
      }),
    );
  }

  /** What the worker's entry in Redis says of its weights. */
  state(shard: Shard): Pick<WorkerState, 'loadable' | 'stored' | 'servesWeights' | 'loadProblem'> {
    return {
      loadable: this.sources.loadable((layer, expert) => shard.has(layer, expert)),
      stored: this.sources.stored(),
      servesWeights: this.#o.config.maxWeightTransfers > 0,
      loadProblem: this.problems.current,
    };
  }

  #openStore(): ExpertStore {
    const { config, engine, clock, logger } = this.#o;
    const store = ExpertStore.open({
      checkpoint: engine.weights.checkpoint,
      budgetBytes: config.modelDiskMib === null ? null : config.modelDiskMib * MIB,
      onWarning: (message) => logger.warn({ message }, 'store of experts'),
      nowMs: () => clock.nowMs(),
    });
    logger.info({ bytes: store.bytes }, 'store of experts opened');
    return store;
  }
}
