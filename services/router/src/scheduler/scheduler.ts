import { fail } from '@guildhall/common';
import type { PagePool } from '../kv/page-pool.ts';
import { pagesFor } from '../kv/page-pool.ts';
import type { StateSlots } from '../kv/state-slots.ts';
import { byRank, type Sequence } from '../sequence.ts';
import { prefillStepMs, StepCostModel, type StepWork } from './budget.ts';
import { chooseDecode } from './decode.ts';
import { choosePrefill, type PrefillItem, workOf } from './prefill.ts';

export interface SchedulerLimits {
  /** Sequences that wait at most; one more is refused. */
  maxWaiting: number;
  /** Tokens of a prefill step, a multiple of 64. */
  chunkTokens: number;
  /** Logit rows of a prefill step, 64 or more. */
  maxLogitRows: number;
  maxPrefillSequences: number;
  /** Predicted time that a decode step and the prefill beside it may take together. */
  stepBudgetMs: number;
}

/** A prefill step: parts of some sequences' tokens. */
export interface PrefillPlan {
  lane: 'prefill';
  items: PrefillItem[];
  work: StepWork;
}

/** A decode step: one token of each. */
export interface DecodePlan {
  lane: 'decode';
  seqs: Sequence[];
  work: StepWork;
  /** Milliseconds that prefill may take beside it at most; see PrefillAllowance. */
  prefillSliceMs: number;
}

/** Part of the step budget, or of the decode step where that is longer, that prefill gets in any case. */
const LEAST_PREFILL_SHARE = 0.5;

/** What happens to sequences outside of the steps; called at once. */
export interface SchedulerHooks {
  /** Pages and slot are there, computation may begin. The slot's state must be reset now. */
  admitted(seq: Sequence): void;
  preempted(seq: Sequence): void;
}

/**
 * Decides what the next step of each lane is, and who holds pages and slots. Waiting sequences are admitted in
 * order of urgency; when pages run out the least urgent sequence gives all of its own up and is computed again
 * later, which never hits the most urgent one.
 */
export class Scheduler {
  readonly pool: PagePool;
  readonly slots: StateSlots;
  readonly prefillCost = new StepCostModel();
  readonly decodeCost = new StepCostModel();
  readonly #limits: SchedulerLimits;
  readonly #hooks: SchedulerHooks;
  /** Without pages and slot, in order of urgency. */
  readonly #waiting: Sequence[] = [];
  /** With pages and slot, in order of urgency. */
  readonly #active: Sequence[] = [];

  constructor(pool: PagePool, slots: StateSlots, limits: SchedulerLimits, hooks: SchedulerHooks) {
    this.pool = pool;
    this.slots = slots;
    this.#limits = limits;
    this.#hooks = hooks;
  }

  get numWaiting(): number {
    return this.#waiting.length;
  }

  get numActive(): number {
    return this.#active.length;
  }

  /** Every sequence that is not done, the active ones first. */
  sequences(): Sequence[] {
    return [...this.#active, ...this.#waiting];
  }

  /** Queues a sequence. Errors: `queue_full`; `out_of_pages` for a prompt that the whole pool cannot hold. */
  add(seq: Sequence): void {
    const needed = pagesFor(seq.numTokens + 1);
    if (needed > this.pool.numPages) {
      const message = `the prompt needs ${needed} KV pages and the router has ${this.pool.numPages}`;
      throw fail('out_of_pages', message, { field: 'prompt_ids' });
    }
    if (this.#waiting.length >= this.#limits.maxWaiting) {
      throw fail('queue_full', `${this.#waiting.length} sequences are waiting, which is the limit`);
    }
    seq.phase = 'waiting';
    insertByRank(this.#waiting, seq);
  }

  /** Admits who fits and puts the next prefill step together; null when there is none. */
  schedulePrefill(): PrefillPlan | null {
    this.#admit();
    const candidates = this.#active.filter((seq) => seq.phase === 'prefill' && !seq.inFlight && !seq.ended);
    const items = choosePrefill(
      candidates,
      {
        maxTokens: this.#limits.chunkTokens,
        maxLogitRows: this.#limits.maxLogitRows,
        maxSequences: this.#limits.maxPrefillSequences,
        budgetMs: prefillStepMs(this.#limits.stepBudgetMs, this.#limits.chunkTokens, this.prefillCost),
      },
      this.prefillCost,
    );
    if (items.length === 0) return null;
    for (const { seq } of items) seq.inFlight = true;
    return { lane: 'prefill', items, work: workOf(items) };
  }

  /** The next decode step: one token of every sequence that can take one; null when there is none. */
  scheduleDecode(): DecodePlan | null {
    const seqs = chooseDecode(this.#active, this.pool, (seq) => this.preempt(seq));
    if (seqs.length === 0) return null;
    for (const seq of seqs) seq.inFlight = true;
    const work = { tokens: seqs.length, depthTokens: seqs.reduce((sum, seq) => sum + seq.numComputed, 0) };
    const budget = this.#limits.stepBudgetMs;
    const decodeMs = this.decodeCost.predict(work);
    const least = Math.max(budget, decodeMs) * LEAST_PREFILL_SHARE;
    return { lane: 'decode', seqs, work, prefillSliceMs: Math.max(budget - decodeMs, least) };
  }

  /**
   * The step that used this sequence is over. Gives back what an ended sequence holds, and carries out a
   * preemption that had to wait.
   */
  retire(seq: Sequence): void {
    seq.inFlight = false;
    if (seq.ended) this.remove(seq);
    else if (seq.preemptWanted) this.preempt(seq);
  }

  /** Takes pages and slot away; the sequence waits in its old place and is computed again. In flight: later. */
  preempt(seq: Sequence): void {
    if (seq.inFlight) {
      seq.preemptWanted = true;
      return;
    }
    this.#release(seq);
    seq.phase = 'waiting';
    seq.numComputed = 0;
    seq.preemptWanted = false;
    insertByRank(this.#waiting, seq);
    this.#hooks.preempted(seq);
  }

  /** Frees an ended sequence, or has its step in flight do so. */
  remove(seq: Sequence): void {
    if (seq.inFlight || seq.phase === 'done') return;
    if (seq.phase === 'waiting') removeFrom(this.#waiting, seq);
    else if (seq.phase !== 'new') this.#release(seq);
    seq.phase = 'done';
  }

  /** Errors: `integrity` when pages or slots do not add up. */
  checkIntegrity(): void {
    this.pool.checkIntegrity(this.#active.map((seq) => seq.table));
    const holders = this.#active.map((seq) => {
      if (seq.slot === null) throw fail('integrity', `${seq.key} is active without a state slot`);
      return { owner: seq.key, slot: seq.slot };
    });
    this.slots.checkIntegrity(holders);
    for (const seq of this.#waiting) {
      if (seq.slot !== null || seq.table.numPages > 0) throw fail('integrity', `${seq.key} waits and holds pages`);
    }
  }

  /** Strictly in order of urgency: who does not fit holds up those behind, so that nobody is overtaken for ever. */
  #admit(): void {
    for (;;) {
      // One whose reader is still slow after it was preempted could do nothing with pages.
      const head = this.#waiting.find((seq) => !seq.sink.congested());
      if (head === undefined || (!this.#fits(head) && !this.#makeRoom(head))) return;
      removeFrom(this.#waiting, head);
      head.table.grow(this.pool, head.numTokens);
      head.slot = this.slots.allocate(head.key);
      head.phase = 'prefill';
      insertByRank(this.#active, head);
      this.#hooks.admitted(head);
    }
  }

  #fits(seq: Sequence): boolean {
    // Some pages stay free for those that decode, or admission would undo itself at their next page.
    const reserve = Math.min(this.#active.length, Math.ceil(this.pool.numPages / 16));
    return this.slots.can() && this.pool.can(pagesFor(seq.numTokens) + reserve);
  }

  /** Preempts for a waiting sequence: those whose reader is slow, and those of lower priority. */
  #makeRoom(head: Sequence): boolean {
    for (let at = this.#active.length - 1; at >= 0 && !this.#fits(head); at--) {
      const seq = this.#active[at];
      if (seq === undefined || seq.ended) continue;
      const yields = seq.spec.priority < head.spec.priority || (seq.phase === 'decode' && seq.sink.congested());
      if (!yields) continue;
      this.preempt(seq);
      // Its pages come when its step retires; that is enough to wait for.
      if (seq.inFlight) return false;
    }
    return this.#fits(head);
  }

  #release(seq: Sequence): void {
    removeFrom(this.#active, seq);
    seq.table.release(this.pool);
    if (seq.slot !== null) this.slots.free(seq.slot, seq.key);
    seq.slot = null;
  }
}

function insertByRank(list: Sequence[], seq: Sequence): void {
  const at = list.findIndex((other) => byRank(seq, other) < 0);
  list.splice(at < 0 ? list.length : at, 0, seq);
}

function removeFrom(list: Sequence[], seq: Sequence): void {
  const at = list.indexOf(seq);
  if (at < 0) throw fail('integrity', `${seq.key} is not where its phase (${seq.phase}) says`);
  list.splice(at, 1);
}
