import {
  type AdminServer,
  advertisedAddress,
  advertisedAdmin,
  bindGrpcServer,
  type Clock,
  Cluster,
  createGrpcServer,
  createMetrics,
  GrpcHealth,
  type Logger,
  type MemberLease,
  type Metrics,
  once,
  openTracing,
  processId,
  type Readiness,
  refuseInsecureListen,
  shutDownGrpcServer,
  startAdminServer,
  type Tracing,
  VERSION,
} from '@guildhall/common';
import { expertBytes } from '@guildhall/model/weights';
import { experts, weights } from '@guildhall/proto';
import { Batcher } from './batcher.ts';
import type { ExpertConfig } from './config.ts';
import { waitDrained } from './drain.ts';
import { type Engine, openEngine } from './engine.ts';
import { LoadReport } from './load-report.ts';
import { encodeMember } from './member.ts';
import { PlacementWatch } from './placement-watch.ts';
import { heldFrame } from './rpc/frames.ts';
import { ExpertsService } from './rpc/service.ts';
import { Shard } from './shard.ts';
import { SpeedMeter } from './speed.ts';
import { WorkMeter } from './work-meter.ts';
import { bootstrapCheckpoint } from './weights/bootstrap.ts';
import type { Peers } from './weights/peers.ts';
import { openPeers, WorkerWeights } from './weights/worker-weights.ts';

export interface ExpertDeps {
  logger: Logger;
  clock: Clock;
  /** Called when the worker cannot go on: its id was taken. */
  onFatal: (err: unknown) => void;
  /** Aborts a start that waits for a peer to give the model. */
  signal?: AbortSignal;
}

/** A running worker. */
export interface ExpertApp {
  id: string;
  address: string;
  admin: string;
  fingerprint: string;
  numericsId: string;
  /** Waits until nobody needs this worker, or there is no point in waiting. */
  drain(): Promise<void>;
  /** Drains, leaves the cluster, ends the streams and frees what it holds. */
  stop(): Promise<void>;
}

const SHUTDOWN_GRACE_MS = 1000;
const GAUGE_EVERY_MS = 2000;

/** What a worker is put together from. */
interface WorkerParts {
  cluster: Cluster;
  peers: Peers;
  metrics: Metrics;
  tracing: Tracing;
}

/** The parts of a worker, wired. */
class Worker {
  readonly metrics: Metrics;
  readonly tracing: Tracing;
  readonly cluster: Cluster;
  readonly batcher: Batcher;
  readonly shard: Shard;
  readonly loads: LoadReport;
  readonly speed = new SpeedMeter();
  readonly work: WorkMeter;
  readonly watch: PlacementWatch;
  readonly service: ExpertsService;
  readonly engine: Engine;
  readonly weights: WorkerWeights;
  readonly #config: ExpertConfig;
  readonly #deps: ExpertDeps;
  readonly #abort = new AbortController();
  #lease: MemberLease | null = null;
  #draining = false;
  /** Says that this worker wants to go, and waits until it may; every call gets the one drain that there is. */
  readonly drain = once(() => this.#runDrain());

  constructor(config: ExpertConfig, deps: ExpertDeps, parts: WorkerParts) {
    const { clock, logger } = deps;
    const { cluster, peers } = parts;
    this.metrics = parts.metrics;
    this.tracing = parts.tracing;
    this.#config = config;
    this.#deps = deps;
    this.engine = openEngine(config, logger);
    const { engine, metrics } = this;
    const { native, weights, model, identity } = engine;
    this.cluster = cluster;
    this.work = new WorkMeter(clock);
    this.batcher = new Batcher({
      target: this.work.timing(this.engine.shard),
      clock,
      metrics,
      maxQueued: config.maxQueued,
    });
    this.weights = new WorkerWeights({
      config,
      engine,
      cluster,
      peers,
      clock,
      logger,
      metrics,
      quietMs: () => this.batcher.quietMs(),
      onChange: () => this.#lease?.touch(),
    });
    const { sources, pace, problems, neighbours } = this.weights;
    this.shard = new Shard({
      native: engine.shard,
      weights,
      sources,
      pace,
      problems,
      model,
      clock,
      logger,
      metrics,
      capacityBytes: config.weightMemoryMib * 2 ** 20,
      onChange: () => this.service.heldChanged(),
    });
    this.loads = new LoadReport({
      reporter: identity.id,
      numLayers: identity.numLayers,
      numExperts: identity.numExperts,
      loads: this.cluster.loads,
      epoch: () => this.watch.epoch,
      clock,
      logger,
    });
    this.watch = new PlacementWatch({
      id: identity.id,
      fingerprint: identity.fingerprint,
      numericsId: identity.numericsId,
      placements: this.cluster.placements,
      members: this.cluster.members,
      shard: this.shard,
      covered: (layer, expert) => neighbours.covers(layer, expert),
      clock,
      logger,
      onAck: (epoch) => this.#acked(epoch),
    });
    this.service = new ExpertsService({
      identity,
      batcher: this.batcher,
      codec: native,
      held: () => heldFrame(this.watch.acked, this.shard.held()),
      countExpert: (layer, expert) => this.loads.count(layer, expert),
      countMessage: (lane, rows, us) => {
        if (lane === 'decode') this.speed.observe(rows, us);
        this.work.count(rows);
      },
      logger,
      metrics,
      tracing: this.tracing,
      clock,
    });
  }

  readiness(): Readiness {
    const details = { epoch: this.watch.acked, held: this.shard.heldCount, wanted: this.watch.wanted };
    if (this.#draining) return { ready: false, reason: 'shutting down', details };
    if (this.#lease?.held !== true) return { ready: false, reason: 'not registered in Redis yet', details };
    if (this.watch.acked === 0) return { ready: false, reason: 'no placement epoch is held yet', details };
    return { ready: true, reason: null, details };
  }

  /** Registers in Redis and follows the placement; waits there while Redis is away. */
  async join(address: string, admin: string): Promise<void> {
    const { identity, model } = this.engine;
    const { cluster, metrics } = this;
    this.#lease = cluster.lease({
      kind: 'expert',
      id: identity.id,
      incarnation: identity.incarnation,
      value: () =>
        encodeMember({
          identity,
          address,
          admin,
          version: VERSION,
          capacityBytes: this.shard.capacityBytes,
          expertBytes: Math.max(this.engine.shard.expertBytes, expertBytes(model, this.#config.weights)),
          failureDomain: this.#config.failureDomain,
          group: this.#config.group,
          node: this.#config.node,
          acked: this.watch.acked,
          draining: this.#draining,
          speed: this.speed.speed,
          work: this.work.work,
          held: this.shard.held(),
          ...this.weights.state(this.shard),
        }),
      onLost: (err) => this.#deps.onFatal(err),
      onRenew: (up) => {
        metrics.gauge('guildhall_redis_up', up ? 1 : 0);
        metrics.count('guildhall_lease_renewals_total', { outcome: up ? 'renewed' : 'failed' });
      },
    });
    await this.#lease.join(this.#abort.signal);
    this.watch.start();
    this.weights.start();
    this.loads.start();
  }

  observe(): void {
    const { runtime } = this.engine;
    for (const [kind, bytes] of Object.entries(runtime.memory()))
      this.metrics.gauge('guildhall_native_bytes', bytes, { kind });
    this.metrics.gauge('guildhall_experts_held', this.shard.heldCount);
    this.metrics.gauge('guildhall_expert_loads_pending', this.watch.pending);
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    this.loads.stop();
    await this.drain();
    await this.#lease?.leave();
    await this.watch.stop();
    this.weights.stop();
    await this.batcher.idle();
    this.service.shutDown();
    await this.cluster.close();
  }

  async #runDrain(): Promise<void> {
    const { cluster, engine } = this;
    this.#draining = true;
    if (this.#config.drainMs === 0 || this.#lease?.held !== true) return;
    this.#lease.touch();
    const { clock, logger } = this.#deps;
    const { drainMs: limitMs, node } = this.#config;
    const end = await waitDrained({ ...engine.identity, cluster, limitMs, untilRoutersEnd: node !== '', clock });
    logger.info({ end }, 'the drain is over');
  }

  #acked(epoch: number): void {
    this.metrics.gauge('guildhall_epoch', epoch);
    this.#lease?.touch();
    this.service.heldChanged();
  }
}

/** A worker with its model open; where that comes from peers, waits for them. */
async function openWorker(
  config: ExpertConfig,
  deps: ExpertDeps,
  metrics: Metrics,
): Promise<{ worker: Worker; started: Promise<void> }> {
  const { clock, logger, signal = new AbortController().signal } = deps;
  const peers = openPeers(config, deps);
  const cluster = new Cluster({ redis: config.redis, cluster: config.cluster, access: config, clock, logger });
  const started = cluster.start();
  const id = processId('expert', config.id);
  let tracing: Tracing | null = null;
  try {
    tracing = await openTracing({ config, service: 'expert', id, clock, logger, metrics });
    if (config.modelFromPeers) {
      await started;
      await bootstrapCheckpoint({ dir: config.model, cluster, peers, clock, logger, signal });
    }
    return { worker: new Worker({ ...config, id }, deps, { cluster, peers, metrics, tracing }), started };
  } catch (err) {
    peers.close();
    await tracing?.shutDown();
    await cluster.close();
    throw err;
  }
}

/**
 * Starts a worker: /health answers from the beginning, calls are taken once the checkpoint is open, and the cluster is
 * joined in the background. Errors: `config_invalid`, `insecure_listen`, those of a checkpoint.
 */
export async function startExpert(config: ExpertConfig, deps: ExpertDeps): Promise<ExpertApp> {
  refuseInsecureListen(config);
  const metrics = createMetrics('expert');
  let worker: Worker | null = null;
  const admin = await startAdminServer(config.adminListen, metrics, {
    started: () => worker !== null,
    readiness: () => worker?.readiness() ?? { ready: false, reason: 'opening the checkpoint' },
    // A worker that has not joined is nobody's; SIGTERM ends it.
    drain: async () => await worker?.drain(),
  });
  try {
    const server = createGrpcServer(config, { maxMessageBytes: config.maxMessageBytes });
    const opened = await openWorker(config, deps, metrics);
    worker = opened.worker;
    return await serve(config, deps, { ...opened, server, admin });
  } catch (err) {
    await admin.close();
    throw err;
  }
}

interface Serving {
  worker: Worker;
  /** Resolves once Redis was asked for the members. */
  started: Promise<void>;
  server: ReturnType<typeof createGrpcServer>;
  admin: AdminServer;
}

async function serve(
  config: ExpertConfig,
  deps: ExpertDeps,
  { worker, started, server, admin }: Serving,
): Promise<ExpertApp> {
  const { clock, logger } = deps;
  worker.service.addTo(server);
  worker.weights.addTo(server);
  const services = [experts.ExpertsClient.serviceName, weights.WeightsClient.serviceName];
  const health = new GrpcHealth(server, { services, ready: () => worker.readiness().ready, clock });
  const bound = await bindGrpcServer(server, config.listen);
  const { identity, runtime } = worker.engine;
  const { fingerprint, numericsId } = identity;
  worker.metrics.gauge('guildhall_build_info', 1, { service: 'expert', version: VERSION, numerics_id: numericsId });
  const gauges = clock.setInterval(GAUGE_EVERY_MS, () => worker.observe());
  const { isa, threads } = runtime.info;
  logger.info({ fingerprint, numericsId, isa, threads }, 'worker started');
  const addresses = [advertisedAddress(config, bound), advertisedAdmin(config, admin.address)] as const;
  let stopping = false;
  const joined = started
    .then(() => worker.join(...addresses))
    .catch((err: unknown) => {
      if (!stopping) deps.onFatal(err);
    });
  return {
    id: identity.id,
    address: bound,
    admin: admin.address,
    fingerprint,
    numericsId,
    drain: () => worker.drain(),
    async stop() {
      stopping = true;
      gauges.cancel();
      await worker.stop();
      health.close();
      await joined;
      await shutDownGrpcServer(server, SHUTDOWN_GRACE_MS);
      await worker.tracing.shutDown();
      await admin.close();
    },
  };
}
