import type { Clock, Logger } from '@guildhall/common';
import type { Emit } from '../../events.ts';
import { sharesOf } from '../../placement-shares.ts';
import type { PlacementRecord } from '../../store/placement-store.ts';
import type { WorkerInfo } from '../../store/worker-store.ts';

export interface StallsDeps {
  clock: Clock;
  logger: Logger;
  emit: Emit;
  /** A worker that has loaded nothing for so long gets nothing new. */
  patienceMs: number;
}

/** How far the workers are with what the placement gives them. */
export interface Loading {
  /** Workers that have yet to load something. */
  loading: string[];
  /** Workers that got stuck: others are to hold what they have not loaded. */
  stalled: ReadonlySet<string>;
}

/** A stalled worker is tried again after this time. */
const RETRY_MS = 600_000;

interface Progress {
  incarnation: bigint;
  epoch: number;
  /** Given experts that are held. */
  held: number;
  sinceMs: number;
  stalledMs: number | null;
  problem: string;
}

/** Watches workers load. One that cannot must not keep the others from what comes after. */
export class StallsController {
  readonly #deps: StallsDeps;
  #known = new Map<string, Progress>();

  constructor(deps: StallsDeps) {
    this.#deps = deps;
  }

  reconcile(workers: readonly WorkerInfo[], placement: PlacementRecord | null): Loading {
    const nowMs = this.#deps.clock.monotonicMs();
    const known = new Map<string, Progress>();
    const loading: string[] = [];
    const stalled = new Set<string>();
    const shares = sharesOf(workers, placement);
    for (const worker of workers) {
      const { given, held } = shares.get(worker.id) ?? { given: 0, held: 0 };
      const epoch = placement?.epoch ?? 0;
      // Who has acknowledged the epoch holds what it gives.
      const behind = given > 0 && worker.ackedEpoch < epoch;
      const progress = this.#progress(worker, epoch, held, behind, nowMs);
      this.#noteProblem(worker, progress);
      known.set(worker.id, progress);
      if (behind && progress.stalledMs === null && nowMs - progress.sinceMs >= this.#deps.patienceMs)
        this.#stall(worker, progress, given - held, nowMs);
      if (progress.stalledMs !== null) stalled.add(worker.id);
      else if (behind) loading.push(worker.id);
    }
    this.#known = known;
    return { loading, stalled };
  }

  #progress(worker: WorkerInfo, epoch: number, held: number, behind: boolean, nowMs: number): Progress {
    const before = this.#known.get(worker.id);
    if (before?.incarnation !== worker.incarnation) {
      const { incarnation } = worker;
      return { incarnation, epoch, held, sinceMs: nowMs, stalledMs: null, problem: '' };
    }
    const retried = before.stalledMs !== null && nowMs - before.stalledMs >= RETRY_MS;
    const stalledMs = retried ? null : before.stalledMs;
    const moved = before.epoch !== epoch || held > before.held || !behind || retried;
    return { ...before, epoch, held, sinceMs: moved ? nowMs : before.sinceMs, stalledMs };
  }

  #noteProblem({ id, loadProblem, capacityBytes }: WorkerInfo, progress: Progress): void {
    const problem = loadProblem === null ? '' : `${loadProblem.code}: ${loadProblem.text}`;
    if (problem !== '' && problem !== progress.problem) {
      // The event is the worker's own.
      const details = { worker: id, code: loadProblem?.code, capacityBytes };
      this.#deps.logger.warn({ event: 'load_failed', ...details, reason: problem }, 'a worker cannot load an expert');
    }
    progress.problem = problem;
  }

  #stall({ id }: WorkerInfo, progress: Progress, missing: number, nowMs: number): void {
    progress.stalledMs = nowMs;
    const seconds = Math.round((nowMs - progress.sinceMs) / 1000);
    const message = `${id} has loaded nothing for ${seconds} s; the ${missing} experts that it lacks are planned elsewhere`;
    this.#deps.emit('load_failed', message, { worker: id, missing, seconds });
    this.#deps.logger.error({ event: 'load_stalled', worker: id, missing, seconds }, 'a worker does not load');
  }
}
