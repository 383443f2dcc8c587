import { type Clock, FakeClock } from '@guildhall/common';
import { silentLogger } from '@guildhall/common/testing';
import { Engine } from '../engine.ts';
import type { PinnedView } from '../experts/placement-view.ts';
import type { WorkerLink } from '../experts/worker-link.ts';
import { PagePool } from '../kv/page-pool.ts';
import { StateSlots } from '../kv/state-slots.ts';
import { PrefillAllowance } from '../scheduler/budget.ts';
import type { SchedulerLimits } from '../scheduler/scheduler.ts';
import { PseudoRunner } from './pseudo-runner.ts';
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
}

/** An engine over the model of hashes. */
export function pseudoEngine(options: PseudoEngineOptions = {}) {
  const clock = options.clock ?? new FakeClock();
  const runner = new PseudoRunner();
  const views = new FakeViews();
  const counts = { preempted: 0, fatal: [] as unknown[] };
  const engine = new Engine({
    clock,
    logger: silentLogger(),
    views,
    runner,
    pool: new PagePool(options.numPages ?? 64),
    slots: new StateSlots(options.maxRunning ?? 8),
    limits: {
      maxWaiting: 100,
      chunkTokens: 128,
      maxLogitRows: 64,
      maxPrefillSequences: 8,
      stepBudgetMs: 50,
      ...options.limits,
    },
    allowance: new PrefillAllowance({ clock, threads: null, alternate: false, decodeSlowdown: 2, burstMs: 1000 }),
    makeSampler: () => new CountingSampler(),
    makeDetokenizer: () => ({ push: options.text ?? ((id) => String(id)) }),
    observer: {
      step: () => undefined,
      preempted: () => (counts.preempted += 1),
      token: () => undefined,
      finished: () => undefined,
      failed: () => undefined,
    },
    queueLimitMs: 30_000,
    expertWaitMs: 10_000,
    onFatal: (err) => counts.fatal.push(err),
  });
  return { engine, runner, views, clock, counts };
}
