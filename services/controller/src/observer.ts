import type { Clock, Cluster, DrainRequest, LeaderElection, Logger, Metrics } from '@guildhall/common';
import type { ControllerConfig } from './config.ts';
import { CoverageController } from './controllers/coverage/controller.ts';
import { type Drain, DrainsController } from './controllers/drains/controller.ts';
import { LoadsController } from './controllers/loads/controller.ts';
import type { Observed } from './controllers/placement/observed.ts';
import { SpeedsController } from './controllers/speeds/controller.ts';
import { StallsController } from './controllers/stalls/controller.ts';
import { WorkersController } from './controllers/workers/controller.ts';
import type { Liveness } from './controllers/workers/liveness.ts';
import type { Emit } from './events.ts';
import type { PlacementRecord } from './store/placement-store.ts';

export interface ObserverDeps {
  config: Pick<ControllerConfig, 'loadHalfLifeMs' | 'loadPatienceMs'>;
  cluster: Pick<Cluster, 'members' | 'drains' | 'loads'>;
  leader: Pick<LeaderElection, 'fence'>;
  liveness: Liveness;
  clock: Clock;
  logger: Logger;
  metrics: Metrics;
  emit: Emit;
}

/** The controllers that look at the cluster, in the order in which one needs what another has seen. */
export class Observer {
  readonly #workers: WorkersController;
  readonly #drains: DrainsController;
  readonly #stalls: StallsController;
  readonly #loads: LoadsController;
  readonly #speeds: SpeedsController;
  readonly #coverage: CoverageController;
  readonly #leader: Pick<LeaderElection, 'fence'>;

  constructor({ config, cluster, leader, liveness, clock, logger, metrics, emit }: ObserverDeps) {
    this.#leader = leader;
    this.#workers = new WorkersController({ members: cluster.members, liveness, clock, logger, metrics, emit });
    this.#drains = new DrainsController({ drains: cluster.drains, logger, emit });
    this.#stalls = new StallsController({ clock, logger, emit, patienceMs: config.loadPatienceMs });
    this.#loads = new LoadsController({ loads: cluster.loads, clock, logger, halfLifeMs: config.loadHalfLifeMs });
    this.#speeds = new SpeedsController(clock);
    this.#coverage = new CoverageController(emit);
  }

  /** The cluster now, given the placement in force; null while the list of members is stale. */
  async observe(placement: PlacementRecord | null): Promise<Observed | null> {
    const live = this.#workers.reconcile(placement);
    if (live === null) return null;
    this.#coverage.reconcile(live.workers);
    const { loading, stalled } = this.#stalls.reconcile(live.workers, placement);
    const draining = await this.#drains.refresh(live, this.#leader.fence !== null);
    await this.#loads.reconcile(live);
    const speeds = this.#speeds.reconcile(live.workers);
    return { live, loading, stalled, draining, speeds, measured: this.#loads.measured() };
  }

  /** Requests to drain as read last, by `kind/id`. */
  get drainRequests(): ReadonlyMap<string, DrainRequest> {
    return this.#drains.requests;
  }

  /** How far each drain is, after a placement was decided on. */
  supervise({ live }: Observed, placement: PlacementRecord | null, planned: ReadonlySet<string>): Promise<Drain[]> {
    return this.#drains.supervise({ live, placement, planned }, this.#leader.fence !== null);
  }
}
