import type { Assignment } from '@guildhall/controller/placement';
import type { SimClock } from '../kernel/sim-clock.ts';
import type { ModelShape } from '../model/shape.ts';
import type { Dispatcher } from './dispatcher.ts';
import { viewAssignment } from './placement.ts';
import type { SimWorker } from './worker.ts';

export interface SimControllerOptions {
  clock: SimClock;
  shape: ModelShape;
  workers: readonly SimWorker[];
  /** Of every router. */
  dispatchers: readonly Dispatcher[];
  /** A placement on live workers, given the one in force. */
  plan: (workers: readonly SimWorker[], current: Assignment | null) => Assignment;
  /** Time after which a dead worker's membership ends. */
  leaseMs: number;
}

/** How often a worker that loads says what it has got, milliseconds. */
const REPORT_MS = 500;

/** What the controller and the loading workers do: placements, and experts that arrive one after another. */
export class SimController {
  readonly #o: SimControllerOptions;
  #epoch = 0;
  #current: Assignment | null = null;
  /** Experts that workers have still to load for the newest placement. */
  #loading = 0;
  /** When every expert of the newest placement was loaded. */
  completeAtMs: number | null = null;
  bytesLoaded = 0;

  constructor(options: SimControllerOptions) {
    this.#o = options;
  }

  get current(): Assignment | null {
    return this.#current;
  }

  /** The first placement; its experts are loaded already. */
  begin(): void {
    const { workers, dispatchers } = this.#o;
    const assignment = this.#publish(workers);
    for (const { worker, key } of this.#missing(assignment)) worker.held[key] = 1;
    for (const dispatcher of dispatchers) {
      for (const worker of workers) dispatcher.setHeld(worker);
      dispatcher.views.rebuild();
    }
  }

  /** A worker has died; its lease ends some time later, and then its experts move. */
  lost(worker: SimWorker): void {
    const { clock, leaseMs, dispatchers } = this.#o;
    clock.setTimer(leaseMs, () => {
      for (const dispatcher of dispatchers) dispatcher.lost(worker, 'its membership has ended');
      this.replan();
    });
  }

  /** Plans anew over live workers; what they lack they load, each one expert after another. */
  replan(): void {
    const { workers } = this.#o;
    const assignment = this.#publish(workers.filter(({ alive }) => alive));
    const wanted = this.#missing(assignment);
    this.#loading = wanted.length;
    this.completeAtMs = null;
    const byWorker = Map.groupBy(wanted, ({ worker }) => worker);
    for (const [worker, list] of byWorker)
      this.#load(
        worker,
        list.map(({ key }) => key),
      );
    if (wanted.length === 0) this.completeAtMs = this.#o.clock.monotonicMs();
  }

  #publish(workers: readonly SimWorker[]): Assignment {
    const { plan, dispatchers, shape } = this.#o;
    const assignment = plan(workers, this.#current);
    this.#current = assignment;
    this.#epoch += 1;
    const placement = viewAssignment(assignment, this.#epoch, shape);
    for (const { views } of dispatchers) views.setPlacement(placement);
    return assignment;
  }

  #missing({ workers, holders }: Assignment): { worker: SimWorker; key: number }[] {
    const byId = new Map(this.#o.workers.map((worker) => [worker.id, worker]));
    const targets = workers.map((id) => byId.get(id) as SimWorker);
    return holders.flat().flatMap((held, key) => {
      const lacking = held.filter((index) => targets[index]?.held[key] !== 1);
      return lacking.map((index) => ({ worker: targets[index] as SimWorker, key }));
    });
  }

  #load(worker: SimWorker, keys: readonly number[]): void {
    const { clock, shape, dispatchers } = this.#o;
    const eachMs = (shape.expertBytes / worker.kind.loadBytesPerSecond) * 1000;
    const batch = Math.max(1, Math.floor(REPORT_MS / eachMs));
    const next = (from: number): void => {
      const to = Math.min(keys.length, from + batch);
      clock.setTimer((to - from) * eachMs, () => {
        if (!worker.alive) return;
        for (const key of keys.slice(from, to)) worker.held[key] = 1;
        for (const dispatcher of dispatchers) dispatcher.setHeld(worker);
        this.#loaded(to - from);
        if (to < keys.length) next(to);
      });
    };
    next(0);
  }

  #loaded(count: number): void {
    const { clock, shape } = this.#o;
    this.#loading -= count;
    this.bytesLoaded += count * shape.expertBytes;
    if (this.#loading === 0) this.completeAtMs = clock.monotonicMs();
  }
}
