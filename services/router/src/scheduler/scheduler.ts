import { type Clock, fail } from '@guildhall/common';
import type { KvManager, PrefixMatch } from '../kv/kv-manager.ts';
import { type PagePool, pagesFor } from '../kv/page-pool.ts';
import type { PlannedSnapshot } from '../kv/sequence-prefix.ts';
import type { SequenceRecord } from '../kv/sequence-record.ts';
import type { StateSlots } from '../kv/state-slots.ts';
import { byRank, type Sequence } from '../sequence.ts';
import { prefillStepMs, StepCostModel, type StepWork } from './budget.ts';
import { chooseDecode } from './decode.ts';
import { Isolation } from './isolation.ts';
import { choosePrefill, type PrefillItem, workOf } from './prefill.ts';
import { WaitingQueue } from './waiting-queue.ts';

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
  /** Waiting time that is worth one level of priority, milliseconds. */
  priorityAgingMs: number;
  /** Shares of tenants that are due more or less than the others' 1. */
  tenantWeights: ReadonlyMap<string, number>;
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
  /** States that the step keeps on its way. */
  snapshots: ReadonlyMap<Sequence, PlannedSnapshot>;
  work: StepWork;
  /** Milliseconds that prefill may take beside it at most; see PrefillAllowance. */
  prefillSliceMs: number;
}

/** Part of the step budget, or of the decode step where that is longer, that prefill gets in any case. */
const LEAST_PREFILL_SHARE = 0.5;

/** What happens to sequences outside of the steps; called at once. */
export interface SchedulerHooks {
  /** Pages and slot are there, computation may begin. */
  admitted(seq: Sequence): void;
  /** Pages and slot are there; those of `match` have to be imported before `restored` is called. */
  restoring(seq: Sequence, match: PrefixMatch): void;
  /** Begins to copy the sequence out of the pool, and calls `swappedOut`; false to compute it again later. */
  swapOut(seq: Sequence): boolean;
  /** What was copied out is of no use any more; `lost` if it could not be used at all. */
  discard(record: SequenceRecord, lost: boolean): void;
  preempted(seq: Sequence, how: Preemption): void;
}

/** What becomes of a preempted sequence: copied out of the pool, or computed again. */
export type Preemption = 'swap' | 'recompute';

/**
 * Decides what the next step of each lane is, and who holds pages and slots. Waiting sequences are admitted in the order
 * of their queue; when pages run out the least urgent sequence gives all of its own up, copied out of the pool or to be
 * computed again, which never hits the most urgent one.
 */
export class Scheduler {
  readonly kv: KvManager;
  readonly prefillCost = new StepCostModel();
  readonly decodeCost = new StepCostModel();
  readonly #limits: SchedulerLimits;
  readonly #hooks: SchedulerHooks;
  /** Without pages and slot. */
  readonly queue: WaitingQueue;
  /** With pages and slot, in order of urgency. */
  readonly #active: Sequence[] = [];
  readonly #isolation = new Isolation();

  constructor(kv: KvManager, limits: SchedulerLimits, hooks: SchedulerHooks, clock: Clock) {
    this.kv = kv;
    this.queue = new WaitingQueue({
      clock,
      agingMs: limits.priorityAgingMs,
      tenantWeights: limits.tenantWeights,
      // One whose reader is still slow after it was preempted could do nothing with pages.
      stalled: (seq) => seq.sink.congested() || seq.prefetching,
    });
    this.#limits = limits;
    this.#hooks = hooks;
  }

  get pool(): PagePool {
    return this.kv.pool;
  }

  get slots(): StateSlots {
    return this.kv.slots;
  }

  get numWaiting(): number {
    return this.queue.size;
  }

  /** Tokens that wait for prefill or are in it; what a cache will spare of those that wait is not known yet. */
  get pendingPrefillTokens(): number {
    return this.sequences().reduce((sum, seq) => sum + (seq.phase === 'decode' ? 0 : seq.numPending), 0);
  }

  get numActive(): number {
    return this.#active.length;
  }

  /** Every sequence that is not done, the active ones first. */
  sequences(): Sequence[] {
    return [...this.#active, ...this.queue.sequences()];
  }

  /** Queues a sequence. Errors: `queue_full`; `out_of_pages` for a prompt that the whole pool cannot hold. */
  add(seq: Sequence): void {
    const needed = pagesFor(seq.numTokens + 1);
    if (needed > this.pool.numPages) {
      const message = `the prompt needs ${needed} KV pages and the router has ${this.pool.numPages}`;
      throw fail('out_of_pages', message, { field: 'prompt_ids' });
    }
    if (this.queue.size >= this.#limits.maxWaiting) {
      throw fail('queue_full', `${this.queue.size} sequences are waiting, which is the limit`);
    }
    seq.phase = 'waiting';
    this.kv.open(seq);
    this.queue.add(seq);
  }

  /** Admits who fits and puts the next prefill step together; null when there is none. */
  schedulePrefill(): PrefillPlan | null {
    this.#admit();
    const ready = this.#active.filter((seq) => seq.phase === 'prefill' && !seq.inFlight && !seq.ended);
    const items = choosePrefill(
      this.#isolation.company('prefill', ready),
      {
        maxTokens: this.#limits.chunkTokens,
        maxLogitRows: this.#limits.maxLogitRows,
        maxSequences: this.#limits.maxPrefillSequences,
        budgetMs: prefillStepMs(this.#limits.stepBudgetMs, this.#limits.chunkTokens, this.prefillCost),
        cut: (seq, chunk) => this.kv.cut(seq, chunk),
      },
      this.prefillCost,
    );
    if (items.length === 0) return null;
    for (const item of items) {
      item.seq.inFlight = true;
      item.snapshot = this.kv.planSnapshot(item.seq, item.chunk);
    }
    return { lane: 'prefill', items, work: workOf(items) };
  }

  /** The next decode step: one token of every sequence that can take one; null when there is none. */
  scheduleDecode(): DecodePlan | null {
    const seqs = chooseDecode(this.#active, this.pool, {
      company: (ready) => this.#isolation.company('decode', ready),
      preempt: (seq) => this.preempt(seq),
    });
    if (seqs.length === 0) return null;
    const snapshots = new Map<Sequence, PlannedSnapshot>();
    for (const seq of seqs) {
      seq.inFlight = true;
      const snapshot = this.kv.planDecodeSnapshot(seq);
      if (snapshot !== null) snapshots.set(seq, snapshot);
    }
    const work = { tokens: seqs.length, depthTokens: seqs.reduce((sum, seq) => sum + seq.numComputed, 0) };
    const budget = this.#limits.stepBudgetMs;
    const decodeMs = this.decodeCost.predict(work);
    const least = Math.max(budget, decodeMs) * LEAST_PREFILL_SHARE;
    return { lane: 'decode', seqs, snapshots, work, prefillSliceMs: Math.max(budget - decodeMs, least) };
  }

  /** Expected milliseconds of computing a sequence's tokens [from, to) with nobody beside it. */
  recomputeMs(from: number, to: number): number {
    const tokens = to - from;
    const steps = Math.ceil(tokens / this.#limits.chunkTokens);
    const work = { tokens, depthTokens: (tokens * (from + to)) / 2 };
    return this.prefillCost.marginal(work) + steps * this.prefillCost.predict({ tokens: 0, depthTokens: 0 });
  }

  /** What a step did to a sequence's pages and state: `done` if its tokens are in place, and counted. */
  stepDone(seq: Sequence, done: boolean, snapshot: PlannedSnapshot | null): void {
    if (!done) seq.spoiled = true;
    this.kv.stepDone(seq, done, snapshot);
  }

  /** The imports of `match` are over; `resume` named pages are in place. */
  restored(seq: Sequence, match: PrefixMatch, resume: number): void {
    this.kv.restored(seq, match, resume);
    this.#dropRecord(seq, !seq.ended);
    this.#ready(seq);
  }

  /** What its record holds is in place. */
  swappedIn(seq: Sequence, record: SequenceRecord): void {
    this.kv.resumed(seq, record);
    this.#dropRecord(seq, false);
    this.#ready(seq);
  }

  #ready(seq: Sequence): void {
    const decodes = seq.numPending === 1 && seq.numGenerated > 0;
    seq.phase = decodes ? 'decode' : 'prefill';
    this.retire(seq);
    if (seq.phase === 'prefill' || seq.phase === 'decode') this.#hooks.admitted(seq);
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

  /**
   * Takes pages and slot away; the sequence waits in its old place. Later, if it is in flight, or is to be copied out
   * before: that counts as in flight as well.
   */
  preempt(seq: Sequence): void {
    if (seq.inFlight) {
      seq.preemptWanted = true;
    } else if (!seq.spoiled && this.#hooks.swapOut(seq)) {
      seq.inFlight = true;
      seq.preemptWanted = true;
    } else {
      this.#giveUp(seq, 'recompute');
    }
  }

  /** The copy that `swapOut` began has ended, with what is held, or null. */
  swappedOut(seq: Sequence, record: SequenceRecord | null): void {
    seq.inFlight = false;
    seq.record = record;
    if (seq.ended) this.remove(seq);
    else this.#giveUp(seq, record === null ? 'recompute' : 'swap');
  }

  #giveUp(seq: Sequence, how: Preemption): void {
    this.#release(seq);
    seq.phase = 'waiting';
    seq.numComputed = 0;
    seq.preemptWanted = false;
    seq.spoiled = false;
    this.queue.putBack(seq);
    this.#hooks.preempted(seq, how);
  }

  /** Frees an ended sequence, or has its step in flight do so. */
  remove(seq: Sequence): void {
    if (seq.inFlight || seq.phase === 'done') return;
    if (seq.phase !== 'new') {
      if (seq.phase !== 'waiting') this.#release(seq);
      this.queue.leave(seq);
    }
    this.#dropRecord(seq, false);
    seq.phase = 'done';
  }

  #dropRecord(seq: Sequence, lost: boolean): void {
    if (seq.record !== null) this.#hooks.discard(seq.record, lost);
    seq.record = null;
  }

  /** Errors: `integrity` when pages or slots do not add up. */
  checkIntegrity(): void {
    this.kv.checkIntegrity(this.#active);
    this.queue.checkIntegrity();
    for (const seq of this.queue.sequences()) {
      if (seq.slot !== null || seq.table.numPages > 0) throw fail('integrity', `${seq.key} waits and holds pages`);
    }
  }

  /** Strictly in the queue's order: who does not fit holds up those behind, so that nobody is overtaken for ever. */
  #admit(): void {
    for (;;) {
      let match: PrefixMatch | null = null;
      const head = this.queue.next((seq) => {
        match = this.#matchOf(seq);
        return seq.record !== null || !this.kv.awaits(seq, match);
      });
      if (head === null || match === null) return;
      if (this.#fits(head, match)) this.#begin(head, match);
      // What was preempted for it may have been what it shares, so that the next round looks again.
      else if (!this.#makeRoom(head)) return;
    }
  }

  /** What the sequence can begin with: what its record needs, or else what there is of its prefix. */
  #matchOf(seq: Sequence): PrefixMatch {
    const match = seq.record === null ? null : this.kv.matchShared(seq, seq.record.shared.length);
    if (match === null) this.#dropRecord(seq, true);
    return match ?? this.kv.match(seq);
  }

  #begin(seq: Sequence, match: PrefixMatch): void {
    if (this.queue.admit(seq)) {
      // Counted now, not when they are computed: else one tenant would get all that is admitted at a time.
      const cached = match.resume * this.kv.pageTokens;
      this.queue.charge(seq.spec.tenant, Math.max(0, seq.numTokens - cached), 0);
    }
    this.kv.admit(seq, match);
    insertByRank(this.#active, seq);
    if (match.imports.length === 0 && seq.record === null) {
      seq.phase = 'prefill';
      this.#hooks.admitted(seq);
    } else {
      seq.phase = 'restoring';
      seq.inFlight = true;
      this.#hooks.restoring(seq, match);
    }
  }

  #fits(seq: Sequence, match: PrefixMatch): boolean {
    // Some pages stay free for those that decode, or admission would undo itself at their next page.
    const reserve = Math.min(this.#active.length, Math.ceil(this.pool.numPages / 16));
    return this.kv.fits(seq, match, reserve);
  }

  /** Preempts for a waiting sequence: those whose reader is slow, and those that are less urgent. */
  #makeRoom(head: Sequence): boolean {
    const level = this.queue.levelOf(head);
    for (let at = this.#active.length - 1; at >= 0 && !this.#fits(head, this.#matchOf(head)); at--) {
      const seq = this.#active[at];
      if (seq === undefined || seq.ended) continue;
      const yields = seq.urgency < level || (seq.phase === 'decode' && seq.sink.congested());
      if (!yields) continue;
      this.preempt(seq);
      // Its pages come when its step retires; that is enough to wait for.
      if (seq.inFlight) return false;
    }
    return this.#fits(head, this.#matchOf(head));
  }

  #release(seq: Sequence): void {
    removeFrom(this.#active, seq);
    this.kv.release(seq);
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
