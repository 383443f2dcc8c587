import type { Clock, Logger, MemberView, Metrics } from '@guildhall/common';
import { type MemberInfos, readMembers, type RouterInfo, type WorkerInfo } from '../../store/worker-store.ts';
import { chooseModel, type ModelIdentity, sameModel } from './model-choice.ts';

export interface WorkersDeps {
  members: Pick<MemberView, 'members' | 'stale'>;
  clock: Clock;
  logger: Logger;
  metrics: Metrics;
}

/** Who lives, as the placement controller uses it. */
export interface LiveWorkers {
  /** The model that is served, null while there is neither worker nor router. */
  model: ModelIdentity | null;
  /** Workers of the model, sorted by id. */
  workers: WorkerInfo[];
  /** Ids of workers with another checkpoint or numerics class: they get nothing. */
  foreign: string[];
  /** Routers of the model. */
  routers: RouterInfo[];
  /** Largest epoch that any member of the model has acknowledged. */
  ackedEpoch: number;
  /** When the set of workers last grew, on the monotonic clock. */
  joinedMs: number;
}

/** Watches the workers: who joined, who left, who does not belong. */
export class WorkersController {
  readonly #deps: WorkersDeps;
  #known = new Map<string, WorkerInfo>();
  #foreign = new Set<string>();
  #joinedMs = 0;

  constructor(deps: WorkersDeps) {
    this.#deps = deps;
  }

  /** The state now; null while the list of members is stale. `served` is the model of the current placement. */
  reconcile(served: ModelIdentity | null): LiveWorkers | null {
    if (this.#deps.members.stale) return null;
    const infos = readMembers(this.#deps.members.members());
    this.#noteChanges(infos);
    const model = chooseModel(served, infos);
    const belongs = (member: ModelIdentity): boolean => model !== null && sameModel(member, model);
    const workers = infos.workers.filter(belongs);
    const foreign = infos.workers.filter((worker) => !belongs(worker));
    if (model !== null) this.#noteForeign(foreign, model);
    this.#gauge(workers, foreign.length);
    const routers = infos.routers.filter(belongs);
    return {
      model,
      workers,
      foreign: foreign.map((worker) => worker.id),
      routers,
      ackedEpoch: Math.max(
        0,
        ...workers.map((worker) => worker.ackedEpoch),
        ...routers.map((router) => router.ackedEpoch),
      ),
      joinedMs: this.#joinedMs,
    };
  }

  #noteChanges(infos: MemberInfos): void {
    const { logger, clock } = this.#deps;
    const now = new Map(infos.workers.map((worker) => [`${worker.id}/${worker.incarnation}`, worker]));
    for (const [key, worker] of now) {
      if (this.#known.has(key)) continue;
      this.#joinedMs = clock.monotonicMs();
      logger.info({ event: 'worker_joined', worker: worker.id, address: worker.address }, 'a worker joined');
    }
    for (const [key, worker] of this.#known) {
      if (!now.has(key)) logger.info({ event: 'worker_left', worker: worker.id }, 'a worker left');
    }
    this.#known = now;
  }

  #noteForeign(foreign: readonly WorkerInfo[], model: ModelIdentity): void {
    const now = new Set(foreign.map((worker) => `${worker.id}/${worker.incarnation}`));
    for (const worker of foreign) {
      if (this.#foreign.has(`${worker.id}/${worker.incarnation}`)) continue;
      const { fingerprint, numericsId } = worker;
      const what = fingerprint === model.fingerprint ? 'numerics class' : 'checkpoint';
      this.#deps.logger.warn(
        { event: 'worker_refused', worker: worker.id, fingerprint, numericsId, expected: model },
        `a worker of another ${what} gets no experts`,
      );
    }
    this.#foreign = now;
  }

  #gauge(workers: readonly WorkerInfo[], foreign: number): void {
    const draining = workers.filter((worker) => worker.draining).length;
    const { metrics } = this.#deps;
    metrics.gauge('guildhall_workers', workers.length - draining, { state: 'active' });
    metrics.gauge('guildhall_workers', draining, { state: 'draining' });
    metrics.gauge('guildhall_workers', foreign, { state: 'refused' });
  }
}
