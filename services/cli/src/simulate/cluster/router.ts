import { createLogger } from '@guildhall/common';
import {
  Engine,
  type ExpertView,
  plainSpec,
  PrefillAllowance,
  RouterKv,
  type SequenceSink,
  type WorkerLink,
} from '@guildhall/router/scheduling';
import type { SimHost, SimThread } from '../kernel/host.ts';
import { Nic } from '../kernel/nic.ts';
import { Random } from '../kernel/random.ts';
import type { SimClock } from '../kernel/sim-clock.ts';
import type { SyntheticGate } from '../model/gate.ts';
import type { DenseTimes, Transport } from '../model/machines.ts';
import type { ModelShape } from '../model/shape.ts';
import { Dispatcher } from './dispatcher.ts';
import { SimRunner } from './runner.ts';
import type { SimWorker } from './worker.ts';

/** What a router is configured with; the router's own defaults. */
export interface RouterSettings {
  chunkTokens: number;
  stepBudgetMs: number;
  decodeSlowdown: number;
  prefillBurstMs: number;
  maxRunning: number;
  microBatches: number;
  microBatchMin: number;
  maxMessageBytes: number;
  hedgeShare: number;
  replyLimitMs: number;
  expertWaitMs: number;
  combine: 'exact' | 'partial';
}

export const ROUTER_DEFAULTS: RouterSettings = {
  chunkTokens: 512,
  stepBudgetMs: 50,
  decodeSlowdown: 1.6,
  prefillBurstMs: 200,
  maxRunning: 64,
  microBatches: 2,
  microBatchMin: 4,
  maxMessageBytes: 256 << 10,
  hedgeShare: 0.03,
  replyLimitMs: 10_000,
  expertWaitMs: 60_000,
  combine: 'exact',
};

export interface SimRouterOptions {
  index: number;
  clock: SimClock;
  shape: ModelShape;
  workers: readonly SimWorker[];
  gate: SyntheticGate;
  host: SimHost;
  times: DenseTimes;
  nicBytesPerSecond: number;
  transport: Transport;
  settings: RouterSettings;
  /** Tokens of the longest request, prompt and answer. */
  maxTokens: number;
  cachedContext: number;
  seed: number;
}

/** Longest that a sequence waits for its first step; no simulation is that long. */
const NO_LIMIT_MS = 1e12;
const PAGE_TOKENS = 64;

/** A router: the real engine, over steps that only take time. */
export class SimRouter {
  readonly engine: Engine;
  readonly runner: SimRunner;
  readonly dispatcher: Dispatcher;
  readonly nic: Nic;
  readonly loop: SimThread;
  readonly compute: SimThread;

  constructor(options: SimRouterOptions) {
    const { index, clock, shape, workers, gate, host, times, settings, seed, cachedContext } = options;
    this.nic = new Nic(options.nicBytesPerSecond);
    this.loop = host.thread();
    this.compute = host.thread();
    this.dispatcher = new Dispatcher({
      index,
      clock,
      shape,
      workers,
      loop: this.loop,
      nic: this.nic,
      transport: options.transport,
      combine: settings.combine,
      maxMessageBytes: settings.maxMessageBytes,
      hedgeShare: settings.hedgeShare,
      replyLimitMs: settings.replyLimitMs,
      expertWaitMs: settings.expertWaitMs,
      seed,
    });
    const { decodeSlowdown, prefillBurstMs: burstMs, microBatches, microBatchMin } = settings;
    const allowance = new PrefillAllowance({ clock, threads: null, alternate: false, decodeSlowdown, burstMs });
    this.runner = new SimRunner({
      clock,
      shape,
      gate,
      random: new Random(seed, `router-${index}`),
      times,
      compute: this.compute,
      dispatcher: this.dispatcher,
      allowance,
      microBatches,
      microBatchMin,
      cachedContext,
    });
    this.engine = makeEngine(options, this.dispatcher, this.runner, allowance);
  }

  /** Takes a request whose tokens do not matter. */
  submit(promptTokens: number, answerTokens: number, sink: SequenceSink): void {
    this.engine.submit(plainSpec(new Int32Array(promptTokens), answerTokens), sink);
  }
}

function makeEngine(
  { clock, shape, settings, maxTokens }: SimRouterOptions,
  { views }: Dispatcher,
  runner: SimRunner,
  allowance: PrefillAllowance,
): Engine {
  const pagesEach = Math.ceil(maxTokens / PAGE_TOKENS) + 1;
  return new Engine({
    clock,
    logger: createLogger({ service: 'simulation', id: null, level: 'silent' }),
    views: engineViews(views, shape),
    runner,
    kv: makeKv(settings.maxRunning, 2 * pagesEach * settings.maxRunning).manager,
    restorer: null,
    swapper: null,
    limits: {
      maxWaiting: 1e6,
      chunkTokens: settings.chunkTokens,
      maxLogitRows: 64,
      maxPrefillSequences: 16,
      stepBudgetMs: settings.stepBudgetMs,
      priorityAgingMs: 5000,
      tenantWeights: new Map(),
    },
    allowance,
    makeSampler: () => new Counter(),
    makeDetokenizer: () => ({ push: () => '' }),
    observer: {
      step: nothing,
      preempted: nothing,
      admitted: nothing,
      token: nothing,
      finished: nothing,
      failed: nothing,
    },
    queueLimitMs: NO_LIMIT_MS,
    expertWaitMs: settings.expertWaitMs,
    onFatal: (err) => {
      throw err;
    },
  });
}

function nothing(): void {}

class Counter {
  numGenerated = 0;

  accept(): void {
    this.numGenerated += 1;
  }
}

/** The engine asks only whether every expert has a holder; workers of a simulation are no links. */
function engineViews(views: Dispatcher['views'], shape: ModelShape) {
  const view: ExpertView<WorkerLink> = {
    epoch: 1,
    workers: [],
    holders: { numExperts: shape.numExperts, start: new Int32Array(1), list: new Int32Array(0) },
    missing: 0,
    firstMissing: null,
    total: 0,
  };
  return {
    latest: view,
    get covered(): boolean {
      return views.covered;
    },
    get uncoveredSinceMs(): number | null {
      return views.uncoveredSinceMs;
    },
    pin: () => ({ view, release: nothing }),
    onChange: (listener: () => void) => views.onChange(listener),
  };
}

function makeKv(maxRunning: number, numPages: number): RouterKv {
  const none = async (): Promise<never> => Promise.reject(new Error('nothing is copied in a simulation'));
  return new RouterKv({
    numPages,
    maxRunning,
    numSnapshots: 0,
    mode: 'off',
    fingerprint: 'simulation',
    numericsId: 'none',
    pageTokens: PAGE_TOKENS,
    pageBytes: 1,
    stateBytes: 1,
    snapshotGrid: 4096,
    transfer: { exportPages: none, importPages: none, exportState: none, importState: none },
    store: null,
    observer: { added: nothing, removed: nothing },
    cost: (tokens) => tokens,
    onError: (err) => {
      throw err;
    },
  });
}
