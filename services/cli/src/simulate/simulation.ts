import { fail } from '@guildhall/common';
import { SimController } from './cluster/controller.ts';
import { observeGate, plan, type PlannerOptions } from './cluster/placement.ts';
import { Recorder, StreamSink, type StreamSinkOptions } from './cluster/recorder.ts';
import { type RouterSettings, SimRouter } from './cluster/router.ts';
import { SimWorker } from './cluster/worker.ts';
import { SimHost, type SimThread } from './kernel/host.ts';
import { Random } from './kernel/random.ts';
import { SimClock } from './kernel/sim-clock.ts';
import { SyntheticGate, type GateOptions } from './model/gate.ts';
import type { DenseTimes, Transport, WorkerKind } from './model/machines.ts';
import type { ModelShape } from './model/shape.ts';
import { type Outcome, outcomeOf, usageOf } from './outcome.ts';

/** Something that goes wrong with a worker. */
export interface Fault {
  /** `lost`: its machine is gone without a word. `killed`: its process is, and its connections break. `slow`: times `factor`. */
  kind: 'lost' | 'killed' | 'slow';
  worker: number;
  atMs: number;
  factor: number;
}

/** Requests: so many streams at a time per router, or so many requests a second in all. */
export interface Workload {
  streams: number;
  ratePerSecond: number | null;
  promptTokens: number;
  answerTokens: number;
  /** Deviation of the logarithm of both lengths. */
  spread: number;
  /** Context that each stream has from a cache beside its prompt. */
  cachedContext: number;
}

export interface SimulationOptions {
  shape: ModelShape;
  workers: readonly WorkerKind[];
  routers: number;
  times: DenseTimes;
  routerCores: number;
  routerLink: number;
  workerLink: number;
  transport: Transport;
  settings: RouterSettings;
  workload: Workload;
  gate: Pick<GateOptions, 'skew' | 'affinity' | 'topics' | 'topicExperts'>;
  /** Copies of each expert at least, and of one at most. */
  copies: number;
  mostCopies: number;
  leaseMs: number;
  faults: readonly Fault[];
  /** All processes on one machine with so many cores; null: each on a machine of its own. */
  sharedCores: number | null;
  /** Of a client on that machine, for each token that it reads. */
  clientMsPerToken: number;
  /** Least time before anything is measured. */
  warmupMs: number;
  durationMs: number;
  binMs: number;
  seed: number;
}

/** How often progress is told. */
const PARTS = 50;
const WARM_UP_LIMIT_MS = 600_000;

/** A whole cluster in simulated time. */
export class Simulation {
  readonly clock = new SimClock();
  readonly workers: SimWorker[];
  readonly routers: SimRouter[];
  readonly controller: SimController;
  readonly recorder: Recorder;
  readonly options: SimulationOptions;
  readonly #gate: SyntheticGate;
  readonly #lengths: Random;
  readonly #client: SimThread;
  /** First streams that have had a token. */
  #begun = 0;
  /** When measuring began. */
  measuredFromMs = 0;

  constructor(options: SimulationOptions) {
    this.options = options;
    const { shape, seed, leaseMs } = options;
    const { clock } = this;
    this.#lengths = new Random(seed, 'lengths');
    this.#gate = new SyntheticGate({ ...options.gate, ...shape, seed });
    this.recorder = new Recorder(options.binMs);
    const shared = options.sharedCores === null ? null : new SimHost(clock, options.sharedCores);
    this.#client = (shared ?? new SimHost(clock, 1)).thread();
    this.workers = this.#makeWorkers(shared);
    this.routers = Array.from({ length: options.routers }, (_, index) => this.#makeRouter(index, shared));
    const planner = this.#planner();
    this.controller = new SimController({
      clock,
      shape,
      workers: this.workers,
      dispatchers: this.routers.map(({ dispatcher }) => dispatcher),
      leaseMs,
      plan: (workers, current) => plan(planner, workers, current),
    });
  }

  /**
   * Runs it to its end. Measuring begins after `warmupMs` and, with a fixed number of streams, when each has had its
   * first token; faults count from then on. `onProgress` is told the share of the work that is over, roughly.
   * Errors: `overloaded` when streams have no first token within ten minutes.
   */
  async run(onProgress: (share: number) => void = () => undefined): Promise<Outcome> {
    const { clock, controller, routers, options } = this;
    controller.begin();
    for (const router of routers) router.engine.start();
    this.#startLoad();
    await this.#warmUp(onProgress);
    this.measuredFromMs = clock.monotonicMs();
    this.recorder.begin();
    for (const { dispatcher } of routers) dispatcher.clearCounts();
    const before = usageOf(this);
    for (const fault of options.faults) clock.setTimer(fault.atMs, () => this.#fail(fault));
    for (let part = 1; part <= PARTS; part++) {
      await clock.runUntil(this.measuredFromMs + (options.durationMs * part) / PARTS);
      onProgress(0.5 + part / PARTS / 2);
    }
    return outcomeOf(this, before);
  }

  async #warmUp(onProgress: (share: number) => void): Promise<void> {
    const { clock } = this;
    const { warmupMs, workload } = this.options;
    const wanted = workload.ratePerSecond === null ? workload.streams * this.routers.length : 0;
    await clock.runUntil(warmupMs);
    while (this.#begun < wanted) {
      if (clock.monotonicMs() > WARM_UP_LIMIT_MS) {
        throw fail('overloaded', `${wanted - this.#begun} of ${wanted} streams have no token after ten minutes`);
      }
      await clock.runUntil(clock.monotonicMs() + warmupMs, () => this.#begun >= wanted);
      onProgress(this.#begun / wanted / 2);
    }
  }

  #planner(): PlannerOptions {
    const { shape, seed, copies, mostCopies, routers, workload, settings } = this.options;
    const perRouter = Math.max(1, Math.ceil(workload.streams / settings.microBatches));
    return {
      shape,
      statistics: observeGate(this.#gate, shape, seed),
      minReplicas: copies,
      maxReplicas: Math.max(copies, mostCopies),
      batchTokens: routers * perRouter,
    };
  }

  #makeWorkers(shared: SimHost | null): SimWorker[] {
    const { workers, shape, workerLink, seed } = this.options;
    const digits = String(workers.length).length;
    return workers.map((kind, index) => {
      // Sorted by id as by number, as placements are.
      const id = `expert-${String(index + 1).padStart(digits, '0')}`;
      const host = shared ?? new SimHost(this.clock, 1);
      const random = new Random(seed, id);
      return new SimWorker({ id, kind, shape, host, nicBytesPerSecond: workerLink, failureDomain: id, random });
    });
  }

  #makeRouter(index: number, shared: SimHost | null): SimRouter {
    const { shape, times, routerCores, routerLink, transport, settings, workload, seed } = this.options;
    return new SimRouter({
      index,
      clock: this.clock,
      shape,
      workers: this.workers,
      gate: this.#gate,
      host: shared ?? new SimHost(this.clock, routerCores),
      times,
      nicBytesPerSecond: routerLink,
      transport,
      settings,
      maxTokens: 4 * (workload.promptTokens + workload.answerTokens),
      cachedContext: workload.cachedContext,
      seed,
    });
  }

  #startLoad(): void {
    const { streams, ratePerSecond } = this.options.workload;
    if (ratePerSecond !== null) return this.#arrive(new Random(this.options.seed, 'arrivals'), ratePerSecond);
    for (const router of this.routers) {
      // Answers of all lengths, so that streams which begin at one time do not end at one.
      for (let stream = 0; stream < streams; stream++) this.#keepBusy(router, (stream + 1) / streams, true);
    }
  }

  /** One stream after another. */
  #keepBusy(router: SimRouter, share: number, first: boolean): void {
    this.#submit(router, share, {
      onFirst: () => (this.#begun += first ? 1 : 0),
      onEnd: () => void this.clock.setTimer(0, () => this.#keepBusy(router, 1, false)),
    });
  }

  #arrive(random: Random, perSecond: number): void {
    this.clock.setTimer(random.exponential(1000 / perSecond), () => {
      // As the gateway does without a cache to look at: the router with the fewest streams.
      const least = this.routers.reduce((best, router) => (loadOf(router) < loadOf(best) ? router : best));
      this.#submit(least, 1, { onFirst: () => undefined, onEnd: () => undefined });
      this.#arrive(random, perSecond);
    });
  }

  #submit(router: SimRouter, share: number, events: Pick<StreamSinkOptions, 'onFirst' | 'onEnd'>): void {
    const { promptTokens, answerTokens } = this.options.workload;
    const prompt = this.#length(promptTokens);
    const answer = Math.max(1, Math.ceil(this.#length(answerTokens) * share));
    const now = (): number => this.clock.monotonicMs();
    const onToken = (): void => this.#client.submit('decode', this.options.clientMsPerToken, () => undefined);
    router.submit(prompt, answer, new StreamSink({ recorder: this.recorder, now, onToken, ...events }));
    this.clock.settle();
  }

  /** A length of a prompt or an answer, at most twice the mean of both together. */
  #length(mean: number): number {
    const { promptTokens, answerTokens, spread } = this.options.workload;
    const drawn = Math.round(this.#lengths.logNormal(mean, spread));
    return Math.max(1, Math.min(2 * (promptTokens + answerTokens), drawn));
  }

  #fail({ kind, worker, factor }: Fault): void {
    const target = this.workers[worker];
    if (target === undefined) return;
    if (kind === 'slow') {
      target.slowness = factor;
      return;
    }
    target.kill();
    this.controller.lost(target);
    if (kind === 'lost') return;
    const { latencyUs } = this.options.transport;
    this.clock.setTimer(latencyUs / 1000, () => {
      for (const { dispatcher } of this.routers) dispatcher.lost(target, 'the connection broke');
    });
  }
}

function loadOf(router: SimRouter): number {
  const { scheduler } = router.engine;
  return scheduler.numActive + scheduler.numWaiting;
}
