import {
  advertisedAdmin,
  type Clock,
  Cluster,
  createMetrics,
  errorMessage,
  type LeaderElection,
  LeaderLock,
  type Logger,
  type MemberLease,
  type Metrics,
  newIncarnation,
  once,
  openTracing,
  Poller,
  processId,
  type Readiness,
  refuseInsecureListen,
  startAdminServer,
  type Timer,
  toGuildhallError,
  type Tracing,
  VERSION,
} from '@guildhall/common';
import { control } from '@guildhall/proto';
import type { Autoscaler } from './autoscaler/loop.ts';
import { openAutoscaler } from './autoscaler/open.ts';
import type { ControllerConfig } from './config.ts';
import { leastCopiesOf } from './controllers/coverage/controller.ts';
import type { Drain } from './controllers/drains/controller.ts';
import { type Outcome, PlacementController } from './controllers/placement/controller.ts';
import type { Observed } from './controllers/placement/observed.ts';
import { registryLiveness } from './controllers/workers/liveness.ts';
import type { Emit } from './events.ts';
import { connectKubernetes, type KubernetesAccess } from './k8s/connect.ts';
import { Kubernetes } from './k8s/kubernetes.ts';
import { Observer } from './observer.ts';
import { Planner } from './planner/planner.ts';
import { ReconcileTraces } from './reconcile-trace.ts';
import { measuredImbalance, statusOf } from './status.ts';
import { redisPlacements } from './store/placement-store.ts';

export interface ControllerDeps {
  logger: Logger;
  clock: Clock;
  /** Called when the controller cannot go on: its id was taken. */
  onFatal: (err: unknown) => void;
  /** Where a pod finds the API server; that of this process by default. */
  env?: Record<string, string | undefined>;
}

/** A running controller. */
export interface ControllerApp {
  id: string;
  admin: string;
  /** True while this one leads. */
  readonly leading: boolean;
  /** What the last reconciliation came to. */
  readonly last: Outcome | null;
  /** Null outside Kubernetes. */
  readonly kubernetes: Kubernetes | null;
  stop(): Promise<void>;
}

const RECONCILE_MS = 1000;
/** The status in Redis is written on every change, and at least this often; it expires after three misses. */
const STATUS_EVERY_MS = 5000;
const DRAIN_STATES = ['asked', 'moving', 'kept', 'done'] as const;

interface ControllerParts {
  id: string;
  metrics: Metrics;
  tracing: Tracing;
  /** Null outside Kubernetes. */
  access: KubernetesAccess | null;
}

class Controller {
  readonly id: string;
  readonly metrics: Metrics;
  readonly cluster: Cluster;
  readonly leader: LeaderElection;
  /** Null outside Kubernetes. */
  readonly kubernetes: Kubernetes | null;
  /** Null where nothing is to be scaled. */
  readonly autoscaler: Autoscaler | null;
  readonly #deps: ControllerDeps;
  readonly #node: string;
  readonly #emit: Emit;
  readonly #observer: Observer;
  readonly #planner = new Planner();
  readonly #placement: PlacementController;
  readonly #poller: Poller;
  readonly #incarnation = newIncarnation();
  readonly #abort = new AbortController();
  readonly #traces: ReconcileTraces;
  #lease: MemberLease | null = null;
  #again: Timer | null = null;
  #draining = false;
  readonly #stopLeading = once(() => this.leader.stop());
  #statusText = '';
  #statusMs = Number.NEGATIVE_INFINITY;
  #wasSynced = false;
  last: Outcome | null = null;

  constructor(config: ControllerConfig, deps: ControllerDeps, parts: ControllerParts) {
    const { clock, logger } = deps;
    const { id, metrics, tracing, access } = parts;
    this.#deps = deps;
    this.id = id;
    this.metrics = metrics;
    metrics.gauge('guildhall_placement_copies', config.replicas, { kind: 'wanted' });
    this.#node = config.node;
    this.#traces = new ReconcileTraces(tracing, clock);
    this.cluster = new Cluster({ redis: config.redis, cluster: config.cluster, access: config, clock, logger });
    const { redis, keys, eventLog } = this.cluster;
    const owner = `${this.id}/${this.#incarnation}`;
    const emitIn =
      (traces: ReconcileTraces): Emit =>
      (kind, message, given = {}) => {
        if (this.leader.fence === null) return;
        const details = { ...given, ...traces.event(kind, message) };
        eventLog.append(kind, this.id, message, details);
        this.kubernetes?.note(kind, message, details);
      };
    const emit = emitIn(this.#traces);
    this.#emit = emit;
    this.kubernetes = access === null ? null : this.#openKubernetes(config, access, owner);
    this.leader = this.kubernetes?.leader ?? new LeaderLock({ redis, keys, clock, logger, owner });
    this.leader.onChange((leading) => this.#led(leading));
    const { cluster, leader, kubernetes } = this;
    // It runs beside the reconciliations: what it notes belongs to traces of its own.
    const traces = new ReconcileTraces(tracing, clock, 'autoscale');
    const scaling = { ...deps, id, cluster, kubernetes, metrics, emit: emitIn(traces), traces };
    this.autoscaler = openAutoscaler(config, scaling);
    const liveness = this.kubernetes?.liveness ?? registryLiveness;
    this.#observer = new Observer({ config, cluster, leader, liveness, clock, logger, metrics, emit });
    this.#placement = this.#placementController(config);
    this.#poller = new Poller(clock, RECONCILE_MS, () => this.#reconcile());
  }

  #openKubernetes(config: ControllerConfig, access: KubernetesAccess, identity: string): Kubernetes {
    const { clock, logger } = this.#deps;
    const { cluster, metrics, id } = this;
    const onChange = (): void => this.#poller.poke();
    return new Kubernetes({
      access,
      config,
      cluster,
      id,
      identity,
      clock,
      logger,
      metrics,
      emit: this.#emit,
      onChange,
    });
  }

  #placementController(config: ControllerConfig): PlacementController {
    const { clock, logger } = this.#deps;
    return new PlacementController({
      observe: (placement) => this.#observer.observe(placement),
      placements: redisPlacements(this.cluster.placementStore, logger),
      plan: (input) =>
        this.#traces.part(
          'plan placement',
          () => this.#planner.plan(input),
          ({ kind }) => ({ 'guildhall.plan': kind }),
        ),
      policy: {
        minReplicas: config.replicas,
        maxReplicas: config.maxReplicas,
        weights: {
          threshold: config.rebalanceThreshold,
          usPerExtraWorker: config.workerPriceUs,
          usPerMovedMib: config.movePriceUs,
        },
      },
      leader: () => this.leader.fence,
      clock,
      logger,
      metrics: this.metrics,
      emit: this.#emit,
      minWorkers: config.minWorkers,
      settleMs: config.settleMs,
      rebalanceMs: config.rebalanceMs,
    });
  }

  readiness(): Readiness {
    const details = {
      leading: this.leader.fence !== null,
      epoch: this.last?.epoch ?? 0,
      action: this.last?.action ?? null,
    };
    if (this.#draining) return { ready: false, reason: 'shutting down', details };
    if (this.last === null || this.last.action === 'stale')
      return { ready: false, reason: this.last?.reason ?? 'starting', details };
    // Once they were there, an API server that is away is no reason to be replaced.
    this.#wasSynced ||= this.kubernetes?.synced ?? true;
    if (!this.#wasSynced) return { ready: false, reason: 'the objects in Kubernetes are not listed yet', details };
    return { ready: true, reason: null, details };
  }

  async start(admin: string): Promise<void> {
    const { cluster } = this;
    await cluster.start();
    cluster.members.onChange(() => this.#poller.poke());
    cluster.events.on((event) => {
      if (event.type === 'drains') this.#poller.poke();
    });
    this.#lease = cluster.lease({
      kind: 'controller',
      id: this.id,
      incarnation: this.#incarnation,
      value: () => this.#member(admin),
      onLost: (err) => this.#deps.onFatal(err),
      onRenew: (up) => {
        this.metrics.gauge('guildhall_redis_up', up ? 1 : 0);
        this.metrics.count('guildhall_lease_renewals_total', { outcome: up ? 'renewed' : 'failed' });
      },
    });
    this.kubernetes?.start();
    await this.#lease.join(this.#abort.signal);
    if (!this.#draining) await this.leader.start();
    await this.#poller.start();
    await this.autoscaler?.start();
  }

  /** Hands the lead to another controller, and does not take it again. */
  async drain(): Promise<void> {
    this.#draining = true;
    await this.#stopLeading();
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    this.#again?.cancel();
    // A plan in progress is of no use any more.
    await this.#planner.stop();
    await this.autoscaler?.stop();
    await this.#poller.stop();
    await this.#planner.stop();
    await this.#stopLeading();
    await this.kubernetes?.stop();
    await this.cluster.close();
  }

  #member(admin: string): Uint8Array {
    return control.Member.encode(
      control.Member.fromPartial({
        kind: control.MemberKind.MEMBER_KIND_CONTROLLER,
        id: this.id,
        incarnation: this.#incarnation,
        node: this.#node,
        address: admin,
        adminAddress: admin,
        version: VERSION,
        ackedEpoch: BigInt(this.last?.epoch ?? 0),
        ready: this.leader.fence !== null,
      }),
    ).finish();
  }

  #led(leading: boolean): void {
    this.metrics.gauge('guildhall_controller_leader', leading ? 1 : 0);
    if (leading) this.#emit('leader', `${this.id} leads`, { fence: this.leader.fence?.fence });
    this.#lease?.touch();
    this.#poller.poke();
  }

  async #reconcile(): Promise<void> {
    const { logger, clock } = this.#deps;
    let traced: Outcome | null = null;
    this.#traces.begin();
    try {
      const outcome = await this.#placement.reconcile();
      traced = outcome;
      this.#note(outcome);
      if (outcome.action === 'refused' && outcome.reason === 'not_leader') this.leader.check();
      this.#again?.cancel();
      if (outcome.againMs !== null)
        this.#again = clock.setTimer(Math.max(outcome.againMs, 10), () => this.#poller.poke());
      if (outcome.observed !== null) await this.#tell(outcome, outcome.observed);
    } catch (err) {
      if (this.#abort.signal.aborted) return;
      this.#traces.failed(toGuildhallError(err).code);
      logger.error({ reason: errorMessage(err), err }, 'a reconciliation failed');
    } finally {
      this.#traces.end(traced);
    }
  }

  async #tell(outcome: Outcome, observed: Observed): Promise<void> {
    const { placement, drainsPlanned } = this.#placement;
    const drains = await this.#observer.supervise(observed, placement, drainsPlanned);
    await this.kubernetes?.shrinks.reconcile(this.#observer.drainRequests);
    this.#gauge(observed, drains);
    if (this.leader.fence !== null) await this.#writeStatus(outcome, observed, drains);
  }

  #gauge(observed: Observed, drains: readonly Drain[]): void {
    const { metrics } = this;
    this.kubernetes?.observe();
    const predicted = this.#placement.placement?.predicted?.imbalance ?? null;
    const measured = measuredImbalance(observed);
    if (predicted !== null) metrics.gauge('guildhall_placement_imbalance', predicted, { kind: 'predicted' });
    if (measured !== null) metrics.gauge('guildhall_placement_imbalance', measured, { kind: 'measured' });
    metrics.gauge('guildhall_placement_copies', leastCopiesOf(observed.live.workers), { kind: 'least' });
    for (const state of DRAIN_STATES)
      metrics.gauge('guildhall_drains', drains.filter((drain) => drain.state === state).length, { state });
  }

  #note(outcome: Outcome): void {
    const before = this.last;
    this.last = outcome;
    this.metrics.gauge('guildhall_epoch', outcome.epoch);
    if (before?.action === outcome.action && before.reason === outcome.reason) return;
    const level = outcome.action === 'short' ? 'error' : 'info';
    this.#deps.logger[level]({ event: 'reconciled', action: outcome.action, epoch: outcome.epoch }, outcome.reason);
  }

  async #writeStatus(outcome: Outcome, observed: Observed, drains: Drain[]): Promise<void> {
    const nowMs = this.#deps.clock.nowMs();
    const { placement } = this.#placement;
    const kubernetes = this.kubernetes?.status() ?? null;
    const status = statusOf({ controller: this.id, outcome, observed, placement, drains, kubernetes, nowMs });
    this.metrics.gauge('guildhall_expert_coverage', status.coverage);
    const text = JSON.stringify({ ...status, updatedMs: 0 }, (key, value: unknown) => (key === 'ageS' ? 0 : value));
    if (text === this.#statusText && nowMs - this.#statusMs < STATUS_EVERY_MS) return;
    const { redis, keys } = this.cluster;
    await redis.set(keys.status('controller'), JSON.stringify(status), 'PX', STATUS_EVERY_MS * 3);
    this.#statusText = text;
    this.#statusMs = nowMs;
  }
}

/** Starts a controller: its admin server listens when this returns, and it joins the cluster in the background. */
export async function startController(config: ControllerConfig, deps: ControllerDeps): Promise<ControllerApp> {
  refuseInsecureListen(config);
  const { clock, logger, env = process.env } = deps;
  const metrics = createMetrics('controller');
  const id = processId('controller', config.id);
  const tracing = await openTracing({ config, service: 'controller', id, env, clock, logger, metrics });
  const access = await connectKubernetes(config, { clock, env });
  const controller = new Controller(config, deps, { id, metrics, tracing, access });
  const admin = await startAdminServer(config.adminListen, controller.metrics, {
    started: () => true,
    readiness: () => controller.readiness(),
    drain: () => controller.drain(),
  });
  controller.metrics.gauge('guildhall_build_info', 1, { service: 'controller', version: VERSION, numerics_id: '' });
  let stopping = false;
  const started = controller.start(advertisedAdmin(config, admin.address)).catch((err: unknown) => {
    if (!stopping) deps.onFatal(err);
  });
  return {
    id: controller.id,
    admin: admin.address,
    kubernetes: controller.kubernetes,
    get leading() {
      return controller.leader.fence !== null;
    },
    get last() {
      return controller.last;
    },
    async stop() {
      stopping = true;
      await controller.stop();
      await started;
      await tracing.shutDown();
      await admin.close();
    },
  };
}
