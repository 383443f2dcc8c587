import type { Lane } from '@guildhall/native';
import { Breakers, MeasuredLatency, seededRandom, TokenBudget, TwoChoices } from '@guildhall/router/policy';
import type { ExpertViews } from '@guildhall/router/scheduling';
import type { SimThread } from '../kernel/host.ts';
import type { Nic } from '../kernel/nic.ts';
import type { SimClock } from '../kernel/sim-clock.ts';
import type { Transport } from '../model/machines.ts';
import type { ModelShape } from '../model/shape.ts';
import { LayerRun, type RunResult } from './layer-run.ts';
import type { SimWorker } from './worker.ts';

export interface DispatcherOptions {
  clock: SimClock;
  shape: ModelShape;
  views: ExpertViews<SimWorker>;
  /** The router's event loop, which packs, sends and takes every message. */
  loop: SimThread;
  nic: Nic;
  transport: Transport;
  combine: 'exact' | 'partial';
  maxMessageBytes: number;
  /** Second calls for each first one at most. */
  hedgeShare: number;
  replyLimitMs: Readonly<Record<Lane, number>>;
  expertWaitMs: number;
  seed: number;
}

/** What a dispatcher has done since the counters were last cleared. */
export interface DispatchCounts {
  /** (row, expert) pairs whose result came first, and results that came again. */
  rows: number;
  duplicates: number;
  firstCalls: number;
  hedges: number;
  hedgesWon: number;
  retries: number;
  /** Sum over tokens and layers of the workers that a token's row was sent to, and how many that were. */
  workersTouched: number;
  tokenLayers: number;
  /** Layers whose rows were given up. */
  failures: number;
}

function noCounts(): DispatchCounts {
  return {
    rows: 0,
    duplicates: 0,
    firstCalls: 0,
    hedges: 0,
    hedgesWon: 0,
    retries: 0,
    workersTouched: 0,
    tokenLayers: 0,
    failures: 0,
  };
}

/** How one router sends expert rows: the router's own decisions, over messages that only take time. */
export class Dispatcher {
  readonly options: DispatcherOptions;
  readonly latency: MeasuredLatency;
  readonly budget: TokenBudget;
  readonly breakers: Breakers;
  readonly choice: TwoChoices;
  counts = noCounts();
  /** Expert rows that each worker owes. */
  readonly #owed = new Map<SimWorker, number>();
  readonly #runs = new Set<LayerRun>();

  constructor(options: DispatcherOptions) {
    this.options = options;
    const { clock, replyLimitMs, hedgeShare, seed } = options;
    this.latency = new MeasuredLatency({ clock, limitMs: replyLimitMs });
    this.budget = new TokenBudget({ share: hedgeShare });
    const random = seededRandom(seed);
    this.breakers = new Breakers({ clock, random });
    this.choice = new TwoChoices(random);
    options.views.onChange(() => this.#each((run) => run.holdersChanged()));
  }

  /** Sends the rows of one layer; `topkIds` is [rows][topK]. `done` is called once, with how it went. */
  run(lane: Lane, layer: number, topkIds: Int32Array, rows: number, done: (result: RunResult) => void): void {
    const run = new LayerRun(this, { lane, layer, topkIds, rows }, (result) => {
      this.#runs.delete(run);
      if (result !== 'ok') this.counts.failures += 1;
      done(result);
    });
    this.#runs.add(run);
    run.start();
  }

  /** The streams to a worker broke: it died, and its machine said so. */
  lost(worker: SimWorker): void {
    this.breakers.record(worker.id, 'lost');
    this.#each((run) => run.lost(worker));
  }

  owes(worker: SimWorker, entries: number): void {
    this.#owed.set(worker, Math.max(0, (this.#owed.get(worker) ?? 0) + entries));
  }

  owed(worker: SimWorker): number {
    return this.#owed.get(worker) ?? 0;
  }

  /** Time until a worker would answer a message sent now. */
  startMs(worker: SimWorker, lane: Lane): number {
    return this.latency.predictMs(worker.id, lane, this.owed(worker));
  }

  /** Time that one more expert row takes a worker. */
  rowMs(worker: SimWorker, lane: Lane): number {
    return this.latency.predictMs(worker.id, lane, 1) - this.latency.predictMs(worker.id, lane, 0);
  }

  clearCounts(): void {
    this.counts = noCounts();
  }

  #each(action: (run: LayerRun) => void): void {
    // One that ends takes itself off.
    const runs = Array.from(this.#runs);
    for (const run of runs) action(run);
  }
}
