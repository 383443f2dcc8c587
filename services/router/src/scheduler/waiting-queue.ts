import { type Clock, fail } from '@guildhall/common';
import type { Sequence } from '../sequence.ts';
import { FairShares, type Tenant } from './fair-shares.ts';
import { OrderedSet } from './ordered-set.ts';
import { PriorityCensus } from './priority-census.ts';

export interface WaitingQueueOptions {
  clock: Clock;
  /** Time after which a line that nobody was admitted from rises by one level of priority, milliseconds. */
  agingMs: number;
  /** Shares of tenants that are due more or less than the others' 1. */
  tenantWeights?: ReadonlyMap<string, number>;
  /** True while a sequence could do nothing with pages, for reasons of its own. */
  stalled: (seq: Sequence) => boolean;
}

/** A sequence's place. */
interface Entry {
  seq: Sequence;
  /** It was admitted before. */
  preempted: boolean;
}

/** Sequences of one tenant and urgency, in the order in which they are admitted. */
interface Line {
  tenant: Tenant;
  urgency: number;
  /** Urgency with what waiting has added to it. */
  level: number;
  /** Since when nobody was admitted from it. */
  sinceMs: number;
  /** When its level rises next; Infinity when it cannot. */
  risesAtMs: number;
  entries: OrderedSet<Entry>;
  head: Entry;
}

/** Where a walk along a line is. */
interface Cursor {
  entry: Entry;
  rest: Iterator<Entry, void>;
}

/**
 * Sequences that wait for pages. Larger levels of priority go first; within a level the tenant that was served least;
 * of one tenant those that were admitted before, then by arrival. A line (one tenant's sequences of one urgency) that
 * nobody was admitted from for a while rises level by level up to the highest priority that is about, so that a low
 * priority waits long but not for ever. It is the line that ages and not each sequence: else a tenant with a long queue
 * would rise above the others with all of it. Who is admitted from a raised line keeps its level. All operations take
 * O(log n), the walk along the queue apart.
 */
export class WaitingQueue {
  readonly shares: FairShares;
  readonly #o: WaitingQueueOptions;
  readonly #census: PriorityCensus;
  readonly #entries = new Map<Sequence, Entry>();
  readonly #lines = new Map<Tenant, Map<number, Line>>();
  readonly #order = new OrderedSet<Line>(byLine);
  readonly #rising = new OrderedSet<Line>((a, b) => a.risesAtMs - b.risesAtMs || byEntry(a.head, b.head));

  constructor(options: WaitingQueueOptions) {
    this.#o = options;
    this.shares = new FairShares(options.tenantWeights);
    this.#census = new PriorityCensus();
  }

  get size(): number {
    return this.#entries.size;
  }

  has(seq: Sequence): boolean {
    return this.#entries.has(seq);
  }

  /** Queues a new sequence. Its priority counts until `leave`. */
  add(seq: Sequence): void {
    if (this.#census.add(seq.spec.priority)) this.#levelAll();
    this.#insert(seq, false);
  }

  /** Queues a sequence that was admitted before and gave its pages up. */
  putBack(seq: Sequence): void {
    this.#insert(seq, true);
  }

  /**
   * Takes a sequence out that is admitted, and gives it the urgency that it has waited for. True if it is for the first
   * time.
   */
  admit(seq: Sequence): boolean {
    this.#rise();
    const entry = this.#entries.get(seq);
    if (entry === undefined) throw fail('integrity', `${seq.key} does not wait`);
    const line = this.#lineOf(seq);
    const { level } = line;
    this.shares.served(line.tenant);
    this.#delete(entry, line, true);
    seq.urgency = level;
    return !entry.preempted;
  }

  /** The sequence is done, whether it waits or was admitted. */
  leave(seq: Sequence): void {
    const entry = this.#entries.get(seq);
    if (entry !== undefined) this.#delete(entry, this.#lineOf(seq), false);
    if (this.#census.delete(seq.spec.priority)) this.#levelAll();
  }

  /** The first that is not stalled and `accept` is true of; null when there is none. */
  next(accept: (seq: Sequence) => boolean = () => true): Sequence | null {
    for (const seq of this.inOrder()) if (!this.#o.stalled(seq) && accept(seq)) return seq;
    return null;
  }

  /** Urgency of a waiting sequence with what waiting has added to it. */
  levelOf(seq: Sequence): number {
    return this.#lineOf(seq).level;
  }

  /** Everybody, in the order of admission. The queue must not change meanwhile. */
  *inOrder(): Generator<Sequence, void, undefined> {
    this.#rise();
    // Lines of one level and counter merge; they are rarely more than one.
    const open: Cursor[] = [];
    let last: Line | null = null;
    for (const line of this.#order) {
      const merges = last !== null && last.level === line.level && last.tenant.counter === line.tenant.counter;
      yield* walk(open, merges ? line.head : null);
      const rest = line.entries[Symbol.iterator]();
      rest.next();
      open.push({ entry: line.head, rest });
      last = line;
    }
    yield* walk(open, null);
  }

  /** Everybody, in no order. */
  sequences(): IterableIterator<Sequence> {
    return this.#entries.keys();
  }

  /** Counts tokens that a tenant was served: computed ones of prompts, and generated ones. */
  charge(tenantName: string, inputTokens: number, outputTokens: number): void {
    const tenant = this.shares.get(tenantName);
    const lines = [...(this.#lines.get(tenant)?.values() ?? [])];
    for (const line of lines) this.#order.delete(line);
    this.shares.charge(tenant, inputTokens, outputTokens);
    for (const line of lines) this.#order.add(line);
  }

  /** Errors: `integrity` when its accounts do not add up. */
  checkIntegrity(): void {
    let counted = 0;
    for (const line of this.#order) {
      counted += line.entries.size;
      if (line.head !== line.entries.first() || !line.tenant.waiting) {
        throw fail('integrity', `a line of ${line.entries.size} waiting sequences is out of order`);
      }
    }
    if (counted !== this.#entries.size || this.#rising.size !== this.#order.size) {
      throw fail('integrity', `${counted} sequences stand in lines, ${this.#entries.size} wait`);
    }
  }

  #insert(seq: Sequence, preempted: boolean): void {
    if (this.#entries.has(seq)) throw fail('integrity', `${seq.key} waits already`);
    const entry: Entry = { seq, preempted };
    const tenant = this.shares.get(seq.spec.tenant);
    const line = this.#lines.get(tenant)?.get(seq.urgency);
    if (line === undefined) this.#openLine(tenant, entry);
    else this.#change(line, () => line.entries.add(entry));
    this.#entries.set(seq, entry);
  }

  #lineOf(seq: Sequence): Line {
    const line = this.#lines.get(this.shares.get(seq.spec.tenant))?.get(seq.urgency);
    if (line === undefined) throw fail('integrity', `${seq.key} stands in no line`);
    return line;
  }

  #openLine(tenant: Tenant, entry: Entry): void {
    if (!tenant.waiting) this.shares.wait(tenant, (other) => this.#isServable(other));
    const { urgency } = entry.seq;
    const entries = new OrderedSet(byEntry);
    entries.add(entry);
    const sinceMs = this.#o.clock.monotonicMs();
    const line = { tenant, urgency, level: 0, sinceMs, risesAtMs: 0, entries, head: entry };
    const lines = this.#lines.get(tenant) ?? new Map<number, Line>();
    this.#lines.set(tenant, lines.set(urgency, line));
    this.#level(line);
    this.#order.add(line);
    this.#rising.add(line);
  }

  #delete(entry: Entry, line: Line, served: boolean): void {
    this.#entries.delete(entry.seq);
    if (line.entries.size === 1) {
      this.#closeLine(line);
      return;
    }
    this.#change(line, () => {
      line.entries.delete(entry);
      if (served) line.sinceMs = this.#o.clock.monotonicMs();
    });
  }

  #closeLine(line: Line): void {
    this.#order.delete(line);
    this.#rising.delete(line);
    const lines = this.#lines.get(line.tenant);
    lines?.delete(line.urgency);
    if (lines === undefined || lines.size > 0) return;
    this.#lines.delete(line.tenant);
    this.shares.leave(line.tenant);
  }

  /** Changes a line, which moves its place among the others. */
  #change(line: Line, action: () => unknown): void {
    this.#order.delete(line);
    this.#rising.delete(line);
    action();
    line.head = line.entries.first() as Entry;
    this.#level(line);
    this.#order.add(line);
    this.#rising.add(line);
  }

  #level(line: Line): void {
    const { agingMs, clock } = this.#o;
    const most = this.#census.highest;
    const earned = Math.floor((clock.monotonicMs() - line.sinceMs) / agingMs);
    line.level = Math.max(line.urgency, Math.min(line.urgency + earned, most));
    line.risesAtMs = line.level < most ? line.sinceMs + (earned + 1) * agingMs : Infinity;
  }

  /** Raises the lines whose time has come. */
  #rise(): void {
    const now = this.#o.clock.monotonicMs();
    for (;;) {
      const line = this.#rising.first();
      if (line === undefined || line.risesAtMs > now) return;
      this.#change(line, () => undefined);
    }
  }

  /** The highest priority has changed: that is how far lines may rise. */
  #levelAll(): void {
    const lines = [...this.#order];
    for (const line of lines) this.#change(line, () => undefined);
  }

  /** One that is passed over for as long as its reader likes must not hold the others' counters down. */
  #isServable(tenant: Tenant): boolean {
    for (const { entries } of this.#lines.get(tenant)?.values() ?? []) {
      for (const { seq } of entries) if (!this.#o.stalled(seq)) return true;
    }
    return false;
  }
}

/** Entries of the open lines in order, as far as they go before `until`. */
function* walk(open: Cursor[], until: Entry | null): Generator<Sequence, void, undefined> {
  for (;;) {
    const cursor = open.reduce<Cursor | null>(
      (best, other) => (best === null || byEntry(other.entry, best.entry) < 0 ? other : best),
      null,
    );
    if (cursor === null || (until !== null && byEntry(until, cursor.entry) < 0)) return;
    yield cursor.entry.seq;
    const next = cursor.rest.next();
    if (next.done === true) open.splice(open.indexOf(cursor), 1);
    else cursor.entry = next.value;
  }
}

function byEntry(a: Entry, b: Entry): number {
  return Number(b.preempted) - Number(a.preempted) || a.seq.ticket - b.seq.ticket;
}

function byLine(a: Line, b: Line): number {
  return b.level - a.level || a.tenant.counter - b.tenant.counter || byEntry(a.head, b.head);
}
