import type { Clock, Logger, MemberView, Metrics } from '@guildhall/common';
import type { Emit } from '../../events.ts';
import { readMembers, type RouterInfo, type WorkerInfo } from '../../store/worker-store.ts';
import { type LiveMembers, type Liveness, registryLiveness } from './liveness.ts';
import { chooseModel, type ModelIdentity, sameModel } from './model-choice.ts';

export interface WorkersDeps {
  members: Pick<MemberView, 'members' | 'stale'>;
  clock: Clock;
  logger: Logger;
  metrics: Metrics;
  emit: Emit;
  /** Who lives besides what their leases in Redis say; by default those alone. */
  liveness?: Liveness;
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
  /** Ids of workers that Kubernetes calls ready and Redis does not know: nothing is decided against them for a while. */
  expected: readonly string[];
}

/** Watches the workers: who joined, who left, who does not belong. */
export class WorkersController {
  readonly #deps: WorkersDeps;
  #seen = false;
  #known = new Map<string, WorkerInfo>();
  #foreign = new Set<string>();
  #joinedMs = 0;

  constructor(deps: WorkersDeps) {
    this.#deps = deps;
  }

  /** The state now; null while the list of members is stale. `served` is the model of the current placement. */
  reconcile(served: ModelIdentity | null): LiveWorkers | null {
    if (this.#deps.members.stale) return null;
    const liveness = this.#deps.liveness ?? registryLiveness;
    const infos = liveness.judge(readMembers(this.#deps.members.members()));
    this.#noteChanges(infos, served !== null);
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
      expected: infos.expected,
    };
  }

  /** A controller that starts beside workers with a placement has nothing to tell of them. */
  #noteChanges(infos: LiveMembers, running: boolean): void {
    const { logger, clock, emit } = this.#deps;
    const first = !this.#seen && running;
    this.#seen = true;
    const now = new Map(infos.workers.map((worker) => [`${worker.id}/${worker.incarnation}`, worker]));
    for (const [key, worker] of now) {
      if (this.#known.has(key)) continue;
      this.#joinedMs = clock.monotonicMs();
      const { id, address, capacityBytes } = worker;
      logger.info({ event: 'worker_joined', worker: id, address }, 'a worker joined');
      if (!first) emit('worker_joined', `${id} joined at ${address}`, { worker: id, address, capacityBytes });
    }
    for (const [key, worker] of this.#known) {
      if (now.has(key)) continue;
      const why = infos.gone.get(`expert/${worker.id}`) ?? null;
      logger.info({ event: 'worker_left', worker: worker.id, why }, 'a worker left');
      emit('worker_left', `${worker.id} left${why === null ? ', or its lease ended' : `: ${why}`}`, {
        worker: worker.id,
      });
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
      const message = `${worker.id} is of another ${what} and gets no experts`;
      this.#deps.emit('worker_refused', message, { worker: worker.id, fingerprint, numericsId });
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
