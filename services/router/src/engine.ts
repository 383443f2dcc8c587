import { type Clock, fail, GuildhallError, type Logger, type Timer, toGuildhallError } from '@guildhall/common';
import type { Lane, SamplerState } from '@guildhall/native';
import type { ExpertViews } from './experts/placement-view.ts';
import type { WorkerLink } from './experts/worker-link.ts';
import { Gate } from './gate.ts';
import type { SequenceGrammar } from './grammar/sequence-grammar.ts';
import type { KvManager, PrefixMatch } from './kv/kv-manager.ts';
import type { Restorer } from './kv/restorer.ts';
import { SequenceCopies } from './kv/sequence-copies.ts';
import type { SequenceRecord } from './kv/sequence-record.ts';
import type { Swapper } from './kv/swapper.ts';
import type { Outcome, StepRunner } from './runner.ts';
import type { PrefillAllowance } from './scheduler/budget.ts';
import { reachOf, snapshotOf } from './scheduler/plans.ts';
import {
  type DecodePlan,
  type PrefillPlan,
  type Preemption,
  Scheduler,
  type SchedulerHooks,
  type SchedulerLimits,
} from './scheduler/scheduler.ts';
import { Sequence, type SequenceSink, type SequenceSpec } from './sequence.ts';
import { computationFailed, lateError, uncoveredError } from './step-failures.ts';
import { type Detokenizer, StopConditions, type StopReason } from './stop-conditions.ts';
import type { SequenceTrace } from './telemetry/sequence-trace.ts';

/** What the engine tells its metrics. */
export interface EngineObserver {
  step(lane: Lane, tokens: number, ms: number): void;
  preempted(seq: Sequence, how: Preemption): void;
  /** For the first time: what it takes from the cache is known. */
  admitted(seq: Sequence): void;
  token(seq: Sequence, previousAtMs: number | null, nowMs: number): void;
  finished(seq: Sequence, reason: StopReason['kind'], nowMs: number): void;
  failed(seq: Sequence, error: GuildhallError): void;
}

/** Where sequences go that are moved to other routers. */
export interface Parking {
  /** Keeps what was copied out of a sequence; returns its handle, or null when it cannot be kept. */
  park(record: SequenceRecord): string | null;
  /** A sequence has left; `parked` says whether with its pages. */
  moved(seq: Sequence, parked: boolean): void;
}

export interface EngineOptions {
  clock: Clock;
  logger: Logger;
  views: Pick<ExpertViews<WorkerLink>, 'pin' | 'covered' | 'uncoveredSinceMs' | 'latest' | 'onChange'>;
  runner: StepRunner;
  kv: KvManager;
  /** Null without lower tiers. */
  restorer: Pick<Restorer, 'restore' | 'shallower'> | null;
  /** Null without lower tiers: preempted sequences are computed again. */
  swapper: Pick<Swapper, 'isWorthwhile' | 'swapOut' | 'swapIn' | 'discard'> | null;
  /** Begins to bring pages of a waiting sequence nearer; null when there is nothing to do. */
  prefetch?: (seq: Sequence) => Promise<void> | null;
  limits: SchedulerLimits;
  allowance: PrefillAllowance;
  makeSampler: (spec: SequenceSpec) => SamplerState;
  /** A matcher for a sequence whose spec has a grammar, with the tokens that were generated before. */
  makeGrammar?: (spec: SequenceSpec) => SequenceGrammar | null;
  makeDetokenizer: () => Detokenizer;
  observer: EngineObserver;
  /** Time that a sequence may wait for its first step, milliseconds. */
  queueLimitMs: number;
  /** Time that sequences wait for experts without a holder, milliseconds. */
  expertWaitMs: number;
  /** An account does not add up, or a step broke in a way that is nobody's fault: the process should end. */
  onFatal: (err: unknown) => void;
}

/** Interval at which deadlines are looked at. */
const SWEEP_MS = 50;

/**
 * The loop that turns requests into tokens. Two lanes run side by side, decode steps and prefill chunks, on disjoint
 * sequences; each step is schedule, forward, postprocess.
 */
export class Engine {
  readonly scheduler: Scheduler;
  readonly #o: EngineOptions;
  readonly #gates: Readonly<Record<Lane, Gate>> = { decode: new Gate(), prefill: new Gate() };
  readonly #copies: SequenceCopies;
  readonly #loops: Promise<void>[] = [];
  #tickets = 0;
  /** Where the sequences go that are moved away; null until then. */
  #parking: Parking | null = null;
  #stopping = false;
  /** Pages were in use since the accounts were last checked. */
  #unchecked = false;
  #sweeper: Timer | null = null;
  #stopWatching: (() => void) | null = null;

  constructor(options: EngineOptions) {
    this.#o = options;
    const { restorer, swapper, logger } = options;
    this.#copies = new SequenceCopies({ restorer, swapper, logger });
    const hooks: SchedulerHooks = {
      admitted: (seq) => this.#onAdmitted(seq),
      restoring: (seq, match) => void this.#restore(seq, match),
      swapOut: (seq) => this.#swapOut(seq),
      discard: (record, lost) => options.swapper?.discard(record, lost),
      preempted: (seq, how) => {
        if (this.#parking === null) options.observer.preempted(seq, how);
        else this.#moveAway(seq, this.#parking);
      },
    };
    this.scheduler = new Scheduler(options.kv, options.limits, hooks, options.clock);
  }

  start(): void {
    this.#stopWatching = this.#o.views.onChange(() => this.wake());
    this.#sweeper = this.#o.clock.setInterval(SWEEP_MS, () => this.#sweep());
    this.#loops.push(this.#runLane('decode'), this.#runLane('prefill'));
  }

  /** Ends every sequence with `reason` and resolves when the steps in flight have retired. */
  async stop(reason: GuildhallError): Promise<void> {
    this.#stopping = true;
    for (const seq of this.scheduler.sequences()) this.#fail(seq, reason);
    this.#o.allowance.lift();
    this.wake();
    await Promise.all(this.#loops);
    this.#sweeper?.cancel();
    this.#stopWatching?.();
  }

  /**
   * Takes a checked request. Its events go to `sink`, perhaps before this returns. Errors: `not_ready` while
   * stopping; `queue_full`, `out_of_pages`; `invalid_value` for generated_ids that go on past their own end.
   */
  submit(spec: SequenceSpec, sink: SequenceSink, trace: SequenceTrace | null = null): Sequence {
    if (this.#stopping || this.#parking !== null) throw fail('not_ready', 'the router is shutting down');
    const needsText = spec.stop.stopStrings.length > 0;
    const stop = new StopConditions(spec.stop, needsText ? this.#o.makeDetokenizer() : null);
    const reason = stop.replay(spec.generatedIds);
    const sampler = this.#o.makeSampler(spec);
    for (const id of spec.generatedIds) sampler.accept(id);
    const grammar = this.#o.makeGrammar?.(spec) ?? null;
    this.#tickets += 1;
    const arrivedAtMs = this.#o.clock.monotonicMs();
    const seq = new Sequence({ spec, sampler, grammar, stop, sink, trace, ticket: this.#tickets, arrivedAtMs });
    if (reason !== null && !(spec.promptLogprobs && spec.generatedIds.length === 0)) {
      this.#finish(seq, reason);
      return seq;
    }
    this.scheduler.add(seq);
    this.#prefetch(seq);
    this.wake();
    return seq;
  }

  /** Ends a sequence at its caller's wish, without a further event. What it holds is freed when its step retires. */
  cancel(seq: Sequence): void {
    if (seq.ended) return;
    this.#o.observer.failed(seq, fail('cancelled', 'the caller cancelled'));
    this.#end(seq);
  }

  /**
   * Takes nothing new, and moves every sequence away: those that wait at once, the others when their step retires, with
   * what was computed of them if the lower tiers have room for it.
   */
  moveAll(parking: Parking): void {
    this.#parking = parking;
    for (const seq of this.scheduler.sequences()) {
      if (seq.phase === 'waiting') this.#moveAway(seq, parking);
      else this.scheduler.preempt(seq);
    }
    this.wake();
  }

  #moveAway(seq: Sequence, parking: Parking): void {
    if (seq.ended) return;
    const { record } = seq;
    // Whoever has it parked frees it.
    seq.record = null;
    const handle = record === null ? null : parking.park(record);
    if (record !== null && handle === null) this.#o.swapper?.discard(record, false);
    seq.sink.moved(handle ?? '', handle === null ? 0 : (record?.numComputed ?? 0));
    parking.moved(seq, handle !== null);
    this.#end(seq);
  }

  #prefetch(seq: Sequence): void {
    const done = this.#o.prefetch?.(seq) ?? null;
    if (done === null) return;
    seq.prefetching = true;
    done
      .catch((err: unknown) => this.#o.logger.warn({ err, ...seq.logFields }, 'prefetch failed'))
      .finally(() => {
        seq.prefetching = false;
        this.wake();
      });
  }

  /** Imports what lower tiers have of an admitted sequence: its prefix, or what it was when it was preempted. */
  async #restore(seq: Sequence, match: PrefixMatch): Promise<void> {
    this.#unchecked = true;
    try {
      const { record } = seq;
      if (record !== null && (await this.#copies.swapIn(seq, record, match))) this.scheduler.swappedIn(seq, record);
      else this.scheduler.restored(seq, match, await this.#copies.restorePrefix(seq, match));
      this.wake();
    } catch (err) {
      this.#o.onFatal(err);
    }
  }

  /** Copies a sequence out that is to give its pages up, if that is cheaper than computing it again. */
  #swapOut(seq: Sequence): boolean {
    const copied = this.#stopping ? null : this.#copies.swapOut(seq, this.#parking !== null);
    if (copied === null) return false;
    copied
      .then((record) => {
        this.scheduler.swappedOut(seq, record);
        this.wake();
      })
      .catch(this.#o.onFatal);
    return true;
  }

  /** Has both lanes look for work: something arrived, was freed, or can be sent again. */
  wake(): void {
    this.#gates.decode.open();
    this.#gates.prefill.open();
  }

  async #runLane(lane: Lane): Promise<void> {
    try {
      while (!this.#stopping) {
        if (!(await this.step(lane))) await this.#gates[lane].wait();
      }
    } catch (err) {
      this.#o.onFatal(err);
    }
  }

  /** Schedule, forward, postprocess. False when this lane has nothing to do now. */
  async step(lane: Lane): Promise<boolean> {
    const plan = this.#schedule(lane);
    if (plan === null) {
      if (lane === 'decode') this.#o.allowance.lift();
      this.#checkWhenIdle();
      return false;
    }
    const pin = this.#o.views.pin();
    try {
      const { outcomes, ms } = await (plan.lane === 'decode'
        ? this.#o.runner.decode(plan, pin.view)
        : this.#o.runner.prefill(plan, pin.view));
      this.#postprocess(plan, outcomes, ms);
    } finally {
      pin.release();
    }
    this.wake();
    return true;
  }

  #schedule(lane: Lane): DecodePlan | PrefillPlan | null {
    // Without all experts a step could only wait, with its buffers and its place in the queue taken.
    if (this.#stopping || !this.#o.views.covered) return null;
    if (lane === 'prefill') return this.scheduler.schedulePrefill();
    const plan = this.scheduler.scheduleDecode();
    if (plan !== null) this.#o.allowance.grant(plan.prefillSliceMs);
    return plan;
  }

  #postprocess(plan: DecodePlan | PrefillPlan, outcomes: readonly Outcome[], ms: number): void {
    this.#o.observer.step(plan.lane, plan.work.tokens, ms);
    const whole = outcomes.every((outcome) => outcome.kind === 'ok');
    const cost = plan.lane === 'decode' ? this.scheduler.decodeCost : this.scheduler.prefillCost;
    if (whole) cost.observe(plan.work, ms);
    this.#charge(outcomes);
    for (const outcome of outcomes) {
      const done = outcome.kind === 'ok';
      if (done) outcome.seq.numComputed += outcome.computed;
      if (done && outcome.seq.numComputed >= outcome.seq.isolatedUntil) outcome.seq.isolatedUntil = 0;
      this.scheduler.stepDone(outcome.seq, done, snapshotOf(plan, outcome.seq));
      if (outcome.kind === 'ok') this.#advance(outcome);
      else if (outcome.kind === 'failed') this.#fail(outcome.seq, outcome.error);
      else this.#again(outcome, reachOf(plan, outcome.seq));
      this.scheduler.retire(outcome.seq);
    }
  }

  #charge(outcomes: readonly Outcome[]): void {
    const generated = new Map<string, number>();
    for (const outcome of outcomes) {
      if (outcome.kind !== 'ok' || outcome.sample === null) continue;
      const { tenant } = outcome.seq.spec;
      generated.set(tenant, (generated.get(tenant) ?? 0) + 1);
    }
    for (const [tenant, tokens] of generated) this.scheduler.queue.charge(tenant, 0, tokens);
  }

  #advance({ seq, sample, promptOutputs }: Extract<Outcome, { kind: 'ok' }>): void {
    if (seq.ended) return;
    if (promptOutputs.length > 0) seq.promptOutputs.push(...promptOutputs);
    if (seq.spec.promptLogprobs && !seq.promptSent && seq.numComputed >= seq.numPrompt) {
      seq.promptSent = true;
      seq.sink.promptLogprobs(seq.promptOutputs);
    }
    if (sample !== null) {
      const now = this.#o.clock.monotonicMs();
      const previous = seq.lastTokenAtMs;
      const reason = this.#accept(seq, sample.id, now);
      if (reason instanceof GuildhallError) return this.#fail(seq, reason);
      this.#o.observer.token(seq, previous, now);
      seq.sink.token({ index: seq.numGenerated - 1, sample, expertMs: seq.expertMs });
      if (reason !== null) return this.#finish(seq, reason);
      seq.phase = 'decode';
    } else if (seq.numPending === 0) {
      this.#finish(seq, { kind: 'length', stopString: null, stopTokenId: null });
    }
  }

  /** Why the sequence ends with this token, or null; or what its own stop conditions make of a token that breaks them. */
  #accept(seq: Sequence, id: number, nowMs: number): StopReason | GuildhallError | null {
    try {
      return seq.accept(id, nowMs);
    } catch (err) {
      return computationFailed(toGuildhallError(err));
    }
  }

  /**
   * A step that `seq` was in broke off. Whoever may have broken it is computed again alone, up to where the step would have
   * got; who breaks a step alone is at fault, and fails.
   */
  #again({ seq, cause, blamed }: Extract<Outcome, { kind: 'again' }>, reached: number): void {
    if (seq.ended) return;
    if (blamed && seq.isolated) return this.#fail(seq, computationFailed(cause));
    if (blamed) {
      seq.isolatedUntil = reached;
      this.#o.logger.error({ err: cause, ...seq.logFields, reached }, 'a step broke off');
    }
    seq.preemptWanted = true;
  }

  #onAdmitted(seq: Sequence): void {
    this.#unchecked = true;
    if (seq.admittedAtMs !== null) return;
    seq.admittedAtMs = this.#o.clock.monotonicMs();
    this.#o.observer.admitted(seq);
    seq.sink.started(this.#o.views.latest.epoch, seq.prefix?.cachedTokens ?? 0);
  }

  #finish(seq: Sequence, reason: StopReason): void {
    const now = this.#o.clock.monotonicMs();
    seq.sink.finished(seq.summary(reason, now));
    this.#o.observer.finished(seq, reason.kind, now);
    this.#end(seq);
  }

  #fail(seq: Sequence, error: GuildhallError): void {
    if (seq.ended) return;
    seq.sink.failed(error);
    this.#o.observer.failed(seq, error);
    this.#end(seq);
  }

  #end(seq: Sequence): void {
    seq.ended = true;
    seq.grammar?.close();
    this.scheduler.remove(seq);
    this.wake();
  }

  /** Ends sequences whose time is up. */
  #sweep(): void {
    // Pages also come back without a step, when a copy of them has ended; and a line may have risen.
    if (this.scheduler.numWaiting > 0) this.wake();
    const now = this.#o.clock.monotonicMs();
    const { queueLimitMs, views } = this.#o;
    const uncoveredMs = views.uncoveredSinceMs === null ? null : now - views.uncoveredSinceMs;
    for (const seq of this.scheduler.sequences()) {
      if (seq.ended) continue;
      const waitedMs = now - seq.arrivedAtMs;
      if (seq.spec.deadlineAtMs !== null && now >= seq.spec.deadlineAtMs) {
        this.#fail(seq, uncoveredMs === null ? lateError(seq, waitedMs) : uncoveredError(views.latest, uncoveredMs));
      } else if (uncoveredMs !== null && this.#waitedInVain(seq, Math.min(uncoveredMs, waitedMs))) {
        this.#fail(seq, uncoveredError(views.latest, uncoveredMs));
      } else if (seq.admittedAtMs === null && waitedMs >= queueLimitMs) {
        this.#fail(seq, fail('overloaded', `waited ${Math.round(waitedMs)} ms without being admitted`));
      }
    }
  }

  /** A request waits for experts until its deadline; one without for a while. */
  #waitedInVain(seq: Sequence, ms: number): boolean {
    return seq.spec.deadlineAtMs === null && ms >= this.#o.expertWaitMs;
  }

  /** Once each time that the last sequence has gone. */
  #checkWhenIdle(): void {
    if (!this.#unchecked || this.scheduler.numActive > 0) return;
    this.#unchecked = false;
    this.scheduler.checkIntegrity();
  }
}
