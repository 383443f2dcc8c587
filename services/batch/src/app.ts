import {
  advertisedAddress,
  advertisedAdmin,
  bindGrpcServer,
  type Clock,
  Cluster,
  createGrpcServer,
  createMetrics,
  errorMessage,
  fail,
  GrpcHealth,
  type Logger,
  newIncarnation,
  once,
  processId,
  type Readiness,
  refuseInsecureListen,
  shutDownGrpcServer,
  startAdminServer,
  VERSION,
} from '@guildhall/common';
import { batches, control } from '@guildhall/proto';
import type { BatchConfig } from './config.ts';
import { ApiClient } from './lines/api-client.ts';
import { BatchQueue } from './queue.ts';
import { queueConnection } from './queue-connection.ts';
import { batchesRpc } from './rpc/service.ts';
import { BatchStore } from './store/batch-store.ts';
import { type BlobStore, DiskStore } from './store/blob-store.ts';
import { FileStore } from './store/file-store.ts';
import { s3Place, S3Store } from './store/s3-store.ts';
import { UploadStore } from './store/upload-store.ts';

export interface BatchDeps {
  logger: Logger;
  clock: Clock;
  /** Called when the process cannot go on: its id was taken. */
  onFatal: (err: unknown) => void;
}

/** A running batch service. */
export interface BatchApp {
  id: string;
  address: string;
  admin: string;
  /** Gives its batches back, leaves the cluster and ends. */
  stop(): Promise<void>;
}

const MESSAGE_BYTES = 4 << 20;
const SHUTDOWN_GRACE_MS = 1000;
const GAUGES_EVERY_MS = 2000;
const SWEEP_EVERY_MS = 60_000;
const HOUR_MS = 3_600_000;

/** The parts of a batch service, wired. */
class BatchService {
  readonly id: string;
  readonly metrics = createMetrics('batch');
  readonly cluster: Cluster;
  readonly files: FileStore;
  readonly uploads: UploadStore;
  readonly store: BatchStore;
  readonly queue: BatchQueue;
  readonly #api: ApiClient;
  readonly #s3: S3Store | null;
  readonly #config: BatchConfig;
  readonly #deps: BatchDeps;
  readonly #incarnation = newIncarnation();
  readonly #connections;
  readonly #abort = new AbortController();
  #joined = false;
  #draining = false;
  /** Takes nothing new and gives the batches back; every call gets the one drain that there is. */
  readonly drain = once(() => this.#runDrain());

  constructor(config: BatchConfig, deps: BatchDeps, s3: S3Store | null) {
    const { clock, logger } = deps;
    const { metrics } = this;
    this.#config = config;
    this.#deps = deps;
    this.id = processId('batch', config.id);
    this.cluster = new Cluster({ redis: config.redis, cluster: config.cluster, access: config, clock, logger });
    const { redis, keys } = this.cluster;
    const owner = `${this.id}.${this.#incarnation.toString(36)}`;
    this.#s3 = s3;
    const blobs: BlobStore = s3 ?? new DiskStore(dataDirOf(config), owner);
    const { maxFileBytes, maxFiles } = config;
    this.files = new FileStore({
      redis,
      keys,
      blobs,
      clock,
      maxFileBytes,
      maxFiles,
      ttlMs: config.fileTtlHours * HOUR_MS,
    });
    this.uploads = new UploadStore({ redis, keys, blobs, files: this.files, clock, maxFileBytes });
    this.store = new BatchStore(redis, keys, clock);
    this.#api = new ApiClient({
      gateways: () => this.#gateways(),
      clusterToken: config.clusterToken,
      clock,
      onRetry: () => metrics.count('guildhall_batch_lines_total', { outcome: 'retried' }),
    });
    this.#connections = [
      queueConnection(config, keys.queues, logger),
      queueConnection(config, keys.queues, logger),
    ] as const;
    const { concurrency, maxLines, maxLineBytes, concurrentBatches, turnMs } = config;
    const run = { concurrency, maxLines, maxLineBytes, batches: this.store, files: this.files, blobs, api: this.#api };
    this.queue = new BatchQueue({
      connection: this.#connections[0],
      blocking: this.#connections[1],
      prefix: keys.queues,
      owner,
      run: { ...run, clock, logger, metrics },
      concurrentBatches,
      turnMs,
      clock,
      logger,
      metrics,
    });
  }

  readiness(): Readiness {
    if (this.#draining) return { ready: false, reason: 'shutting down' };
    return this.#joined ? { ready: true, reason: null } : { ready: false, reason: 'not registered in Redis yet' };
  }

  /** Joins the cluster and begins to work; waits there while Redis is away. */
  async join(address: string, admin: string): Promise<void> {
    await this.cluster.start();
    const lease = this.cluster.lease({
      kind: 'batch',
      id: this.id,
      incarnation: this.#incarnation,
      value: () => this.#member(address, admin),
      onLost: (err) => this.#deps.onFatal(err),
      onRenew: (up) => {
        this.metrics.gauge('guildhall_redis_up', up ? 1 : 0);
        this.metrics.count('guildhall_lease_renewals_total', { outcome: up ? 'renewed' : 'failed' });
      },
    });
    await lease.join(this.#abort.signal);
    this.#joined = true;
    lease.touch();
    this.queue.start();
    await this.sweep();
  }

  /** Removes expired files, and puts batches back into the queue that Redis has and the queue has lost. */
  async sweep(): Promise<void> {
    const { logger } = this.#deps;
    try {
      await this.files.sweep();
      await this.uploads.sweep();
      for (const id of await this.store.running()) await this.queue.add(id);
    } catch (err) {
      logger.warn({ reason: errorMessage(err) }, 'files and batches could not be looked through');
    }
  }

  async gauge(): Promise<void> {
    const depth = await this.queue.depth().catch(() => null);
    if (depth !== null) this.metrics.gauge('guildhall_batch_queue_depth', depth);
  }

  async stop(): Promise<void> {
    this.#abort.abort(fail('cancelled', 'the process ends'));
    await this.drain();
    this.#api.close();
    this.#s3?.close();
    for (const connection of this.#connections) connection.disconnect();
    await this.cluster.close();
  }

  async #runDrain(): Promise<void> {
    this.#draining = true;
    await this.queue.stop(this.#config.drainMs);
  }

  #member(address: string, admin: string): Uint8Array {
    const member = control.Member.fromPartial({
      kind: control.MemberKind.MEMBER_KIND_BATCH,
      id: this.id,
      incarnation: this.#incarnation,
      address,
      adminAddress: admin,
      version: VERSION,
      ready: this.#joined && !this.#draining,
      draining: this.#draining,
      node: this.#config.node ?? '',
    });
    return control.Member.encode(member).finish();
  }

  #gateways(): readonly string[] {
    const { gatewayUrl } = this.#config;
    if (gatewayUrl !== null) return [gatewayUrl];
    return this.cluster.members
      .members()
      .filter(({ kind }) => kind === 'gateway')
      .map(({ value }) => control.Member.decode(value))
      .filter(({ ready, draining }) => ready && !draining)
      .map(({ address }) => `http://${address}`);
  }
}

/** The bucket of the files, if they are to lie in one. */
async function bucketOf({ filesStorage }: BatchConfig, clock: Clock): Promise<S3Store | null> {
  const place = filesStorage === null ? null : s3Place(filesStorage);
  return place === null ? null : await S3Store.open(place, process.env, clock);
}

function dataDirOf({ dataDir }: BatchConfig): string {
  if (dataDir !== null) return dataDir;
  throw fail(
    'config_invalid',
    'dataDir: give a folder for the files with --data-dir, or a bucket with --files-storage',
    {
      field: 'dataDir',
    },
  );
}

/** Starts a batch service: it listens when this returns, and joins the cluster in the background. */
export async function startBatch(config: BatchConfig, deps: BatchDeps): Promise<BatchApp> {
  refuseInsecureListen(config);
  const { clock } = deps;
  const service = new BatchService(config, deps, await bucketOf(config, clock));
  const { metrics, files, uploads, store: batchStore, queue } = service;
  const server = createGrpcServer(config, { maxMessageBytes: MESSAGE_BYTES });
  const enqueue = (id: string): Promise<void> => queue.add(id);
  const windowMs = config.windowHours * HOUR_MS;
  server.addService(
    batches.BatchesService,
    batchesRpc({ files, uploads, batches: batchStore, enqueue, windowMs, clock, metrics }),
  );
  const ready = (): boolean => service.readiness().ready;
  const health = new GrpcHealth(server, { services: ['guildhall.v1.Batches'], ready, clock });
  const bound = await bindGrpcServer(server, config.listen);
  const admin = await startAdminServer(config.adminListen, metrics, {
    started: () => true,
    readiness: () => service.readiness(),
    drain: () => service.drain(),
  });
  metrics.gauge('guildhall_build_info', 1, { service: 'batch', version: VERSION, numerics_id: '' });
  const timers = [
    clock.setInterval(GAUGES_EVERY_MS, () => void service.gauge()),
    clock.setInterval(SWEEP_EVERY_MS, () => void service.sweep()),
  ];
  let stopping = false;
  const joined = service
    .join(advertisedAddress(config, bound), advertisedAdmin(config, admin.address))
    .catch((err: unknown) => {
      if (!stopping) deps.onFatal(err);
    });
  return {
    id: service.id,
    address: bound,
    admin: admin.address,
    async stop() {
      stopping = true;
      for (const timer of timers) timer.cancel();
      health.close();
      await service.stop();
      await joined;
      await shutDownGrpcServer(server, SHUTDOWN_GRACE_MS);
      await admin.close();
    },
  };
}
