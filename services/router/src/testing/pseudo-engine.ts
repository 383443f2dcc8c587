import { type Clock, FakeClock } from '@guildhall/common';
import { silentLogger } from '@guildhall/common/testing';
import { Engine } from '../engine.ts';
import type { PinnedView } from '../experts/placement-view.ts';
import type { WorkerLink } from '../experts/worker-link.ts';
import { RouterKv, type RouterKvOptions } from '../kv/router-kv.ts';
import type { SwapDeps } from '../kv/sequence-record.ts';
import { Swapper } from '../kv/swapper.ts';
import { PrefillAllowance } from '../scheduler/budget.ts';
import type { SchedulerLimits } from '../scheduler/scheduler.ts';
import type { Sequence } from '../sequence.ts';
import { PSEUDO_PAGE_BYTES, PSEUDO_STATE_BYTES, PseudoRunner } from './pseudo-runner.ts';
import { CountingSampler } from './sequences.ts';

/** Coverage under a test's control. */
export class FakeViews {
  covered = true;
  uncoveredSinceMs: number | null = null;
  readonly latest = {
    epoch: 7,
    workers: [],
    holders: { numExperts: 1, start: new Int32Array(2), list: new Int32Array(0) },
    missing: 0,
    firstMissing: null,
    total: 1,
  };
  pins = 0;
  #listener: () => void = () => undefined;

  pin(): PinnedView<WorkerLink> {
    this.pins += 1;
    return { view: this.latest, release: () => (this.pins -= 1) };
  }

  onChange(listener: () => void): () => void {
    this.#listener = listener;
    return () => undefined;
  }

  set(covered: boolean, nowMs: number): void {
    this.covered = covered;
    this.uncoveredSinceMs = covered ? null : nowMs;
    this.#listener();
  }
}

export interface PseudoEngineOptions {
  numPages?: number;
  maxRunning?: number;
  limits?: Partial<SchedulerLimits>;
  clock?: Clock;
  text?: (id: number) => string;
  runner?: PseudoRunner;
  kv?: Partial<RouterKvOptions>;
  /** Where preempted sequences are copied to. */
  swap?: SwapDeps['store'];
  prefetch?: (seq: Sequence) => Promise<void> | null;
}

/** Swaps whatever can be swapped. */
function pseudoSwapper(
  store: SwapDeps['store'],
  kv: RouterKv,
  clock: Clock,
  runner: PseudoRunner,
  counts: { lost: number },
): Swapper {
  return new Swapper({
    mode: 'auto',
    clock,
    kv: kv.manager,
    restorer: kv.restorer,
    transfer: runner.transfer,
    store,
    pageBytes: PSEUDO_PAGE_BYTES,
    stateBytes: PSEUDO_STATE_BYTES,
    recomputeMs: () => Infinity,
    moved: () => undefined,
    lost: () => (counts.lost += 1),
  });
}

function pseudoKv(options: PseudoEngineOptions, runner: PseudoRunner): RouterKv {
  return new RouterKv({
    numPages: options.numPages ?? 64,
    maxRunning: options.maxRunning ?? 8,
    numSnapshots: 4,
    mode: 'exact',
    fingerprint: 'pseudo',
    numericsId: 'hashes',
    pageTokens: 64,
    pageBytes: PSEUDO_PAGE_BYTES,
    stateBytes: PSEUDO_STATE_BYTES,
    snapshotGrid: 256,
    transfer: runner.transfer,
    store: null,
    observer: { added: () => undefined, removed: () => undefined },
    cost: (tokens) => tokens,
    onError: (err) => {
      throw err;
    },
    ...options.kv,
  });
}

/** An engine over the model of hashes. */
export function pseudoEngine(options: PseudoEngineOptions = {}) {
  const clock = options.clock ?? new FakeClock();
  const runner = options.runner ?? new PseudoRunner();
  const kv = pseudoKv(options, runner);
  const views = new FakeViews();
  const counts = { preempted: 0, swapped: 0, lost: 0, fatal: [] as unknown[] };
  const engine = new Engine({
    clock,
    logger: silentLogger(),
    views,
    runner,
    kv: kv.manager,
    restorer: kv.restorer,
    ...(options.prefetch === undefined ? {} : { prefetch: options.prefetch }),
    swapper: options.swap === undefined ? null : pseudoSwapper(options.swap, kv, clock, runner, counts),
    limits: {
      maxWaiting: 100,
      chunkTokens: 128,
      maxLogitRows: 64,
      maxPrefillSequences: 8,
      stepBudgetMs: 50,
      priorityAgingMs: 1000,
      tenantWeights: new Map(),
      ...options.limits,
    },
    allowance: new PrefillAllowance({ clock, threads: null, alternate: false, decodeSlowdown: 2, burstMs: 1000 }),
    makeSampler: () => new CountingSampler(),
    makeDetokenizer: () => ({ push: options.text ?? ((id) => String(id)) }),
    observer: {
      step: () => undefined,
      preempted: (_seq, how) => {
        counts.preempted += 1;
        if (how === 'swap') counts.swapped += 1;
      },
      admitted: () => undefined,
      token: () => undefined,
      finished: () => undefined,
      failed: () => undefined,
    },
    queueLimitMs: 30_000,
    expertWaitMs: 10_000,
    onFatal: (err) => counts.fatal.push(err),
  });
  return { engine, runner, views, clock, counts, kv };
}
