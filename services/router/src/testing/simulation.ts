import assert from 'node:assert/strict';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { fail, FakeClock } from '@guildhall/common';
import type { StepRunner } from '../runner.ts';
import type { DecodePlan, PrefillPlan } from '../scheduler/scheduler.ts';
import { byRank, type Sequence } from '../sequence.ts';
import { pseudoEngine, type PseudoEngineOptions } from './pseudo-engine.ts';
import { PseudoRunner } from './pseudo-runner.ts';
import { RecordingSink, specOf } from './sequences.ts';

type Given = Parameters<typeof specOf>[0];

/** Milliseconds between two looks at a simulated engine. */
const TICK_MS = 20;
/** Turns of the event loop after which nothing happens any more without the clock: copies of several batches need some. */
const TURNS = 40;

/** The model of hashes with steps that take time on a clock, of which the test sees how many are under way. */
class TimedRunner extends PseudoRunner implements StepRunner {
  readonly #clock: FakeClock;
  readonly #onStep: () => void;
  stepping = 0;
  /** Tokens that steps have processed, those computed again included. */
  processed = 0;

  constructor(clock: FakeClock, onStep: () => void) {
    super();
    this.#clock = clock;
    this.#onStep = onStep;
  }

  override async prefill(plan: PrefillPlan): ReturnType<StepRunner['prefill']> {
    return await this.#timed(2 + plan.work.tokens / 16, plan.work.tokens, () => super.prefill(plan));
  }

  override async decode(plan: DecodePlan): ReturnType<StepRunner['decode']> {
    return await this.#timed(4 + plan.seqs.length / 4, plan.seqs.length, () => super.decode(plan));
  }

  async #timed(ms: number, tokens: number, step: () => ReturnType<StepRunner['decode']>) {
    this.#onStep();
    this.stepping += 1;
    this.processed += tokens;
    await this.#clock.sleep(ms);
    const { outcomes } = await step();
    this.stepping -= 1;
    return { outcomes, ms };
  }
}

/** A request in a simulation. */
export interface Simulated {
  seq: Sequence;
  sink: RecordingSink;
  cancelled: boolean;
}

/**
 * An engine on a simulated clock. At every step the accounts are checked, and at every tick that somebody is at work, or
 * that everybody left is waiting for its own reader. Nobody is preempted for one who is less urgent.
 */
export class Simulation {
  readonly clock = new FakeClock();
  readonly requests: Simulated[] = [];
  ended = false;
  readonly runner: TimedRunner;
  readonly pseudo: ReturnType<typeof pseudoEngine>;

  constructor(options: PseudoEngineOptions = {}) {
    this.runner = new TimedRunner(this.clock, () => this.pseudo.engine.scheduler.checkIntegrity());
    this.pseudo = pseudoEngine({ ...options, clock: this.clock, runner: this.runner });
    this.#watchPreemption();
    this.pseudo.engine.start();
  }

  get scheduler(): Simulation['pseudo']['engine']['scheduler'] {
    return this.pseudo.engine.scheduler;
  }

  submit(given: Given): Simulated {
    const sink = new RecordingSink();
    const request = { seq: this.pseudo.engine.submit(specOf(given), sink), sink, cancelled: false };
    this.requests.push(request);
    return request;
  }

  cancel(request: Simulated): void {
    request.cancelled = true;
    this.pseudo.engine.cancel(request.seq);
  }

  setSlow(request: Simulated, slow: boolean): void {
    request.sink.slow = slow;
    if (!slow) this.pseudo.engine.wake();
  }

  at(ms: number, action: () => void): void {
    this.clock.setTimer(ms, action);
  }

  /** Lets time pass until `done`. Fails after `limitMs` of simulated time, or when nothing moves any more. */
  async until(done: () => boolean, limitMs: number): Promise<void> {
    const end = this.clock.monotonicMs() + limitMs;
    while (!done()) {
      if (this.clock.monotonicMs() >= end) assert.fail(`not done after ${limitMs} ms: ${this.#describe()}`);
      await this.clock.advance(TICK_MS);
      for (let i = 0; i < TURNS && !this.#isMoving(); i++) await nextTurn();
      assert.deepEqual(this.pseudo.counts.fatal, []);
      this.scheduler.checkIntegrity();
      if (!this.#isMoving()) assert.fail(`nobody moves: ${this.#describe()}`);
    }
  }

  /** Ends the simulation; all that was given out must be back. */
  async end(): Promise<void> {
    this.ended = true;
    const stopped = this.pseudo.engine.stop(fail('cancelled', 'the simulation is over'));
    let over = false;
    void stopped.finally(() => (over = true));
    while (!over) await this.clock.advance(TICK_MS);
    await stopped;
    assert.deepEqual(this.pseudo.counts.fatal, []);
    this.scheduler.checkIntegrity();
    assert.equal(this.scheduler.numActive + this.scheduler.numWaiting, 0);
    assert.equal(this.scheduler.slots.numFree, this.scheduler.slots.numSlots);
    this.pseudo.kv.cache?.clear();
    assert.equal(this.scheduler.pool.numFree, this.scheduler.pool.numPages, 'a page was leaked');
  }

  /** A step is under way, a copy is, or everybody who is left is held up by its reader. */
  #isMoving(): boolean {
    if (this.runner.stepping > 0) return true;
    return this.scheduler.sequences().every((seq) => seq.sink.congested());
  }

  #watchPreemption(): void {
    const { scheduler } = this;
    const preempt = scheduler.preempt.bind(scheduler);
    scheduler.preempt = (seq) => {
      const decided = seq.preemptWanted || seq.sink.congested();
      const others = scheduler.sequences().filter((other) => other !== seq && !other.ended);
      const outranked = others.some((other) => levelOf(other) > seq.urgency || byRank(other, seq) < 0);
      assert.ok(decided || outranked, 'the most urgent sequence is preempted');
      preempt(seq);
    };
    const levelOf = (seq: Sequence): number => (scheduler.queue.has(seq) ? scheduler.queue.levelOf(seq) : seq.urgency);
  }

  #describe(): string {
    const { pool, slots } = this.scheduler;
    const seqs = this.scheduler.sequences().map((seq) => {
      const flags = `${seq.inFlight ? ' in flight' : ''}${seq.sink.congested() ? ' slow' : ''}`;
      return `${seq.key} ${seq.phase}${flags} ${seq.numComputed}/${seq.numTokens}`;
    });
    return `${pool.numFree} of ${pool.numPages} pages and ${slots.numFree} slots free; ${seqs.join(', ')}`;
  }
}

/** Tokens that a request gets with the engine to itself. */
export async function tokensAlone(given: Given): Promise<number[]> {
  const simulation = new Simulation({ numPages: 64 });
  const { sink } = simulation.submit(given);
  await simulation.until(() => sink.result !== null || sink.error !== null, 1e7);
  await simulation.end();
  assert.equal(sink.error, null);
  return sink.ids;
}
