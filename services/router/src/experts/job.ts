import type { Call } from './calls.ts';
import type { ReplyOutcome } from './lane-stream.ts';
import type { Entries } from './plan.ts';
import type { History } from './suspects.ts';

export type Reply = Extract<ReplyOutcome, { kind: 'reply' }>;

/** One way of having the rows of a job computed: calls that cover it together. */
export interface Way {
  readonly kind: 'first' | 'hedge' | 'late';
  readonly calls: Call[];
  /** What came of each call, null so far; rows are not taken before all of them are there. */
  readonly replies: (Reply | null)[];
}

/** Rows on their way, and perhaps on a second way as well: the first to be complete is taken, once. */
export interface Job {
  readonly entries: Entries;
  history: History;
  readonly ways: Way[];
  /** A second way was tried or is not to be. */
  isHedged: boolean;
  /** When to look for another way, whatever it costs, for a call that is late; Infinity while none is. */
  insistAtMs: number;
  isDone: boolean;
}

/** Rows that are to be sent again. */
export interface Retry {
  readonly entries: Entries;
  readonly history: History;
}

/** Experts of some entries, ascending, without repeats. */
export function expertsOf(sets: readonly Entries[]): number[] {
  const experts = new Set<number>();
  for (const set of sets) for (const expert of set.experts) experts.add(expert);
  return Array.from(experts).sort((a, b) => a - b);
}

/** Sequences of some entries, ascending, without repeats. */
export function sequencesOf(sets: readonly Entries[], ownerOf: (row: number) => number): number[] {
  const sequences = new Set<number>();
  for (const set of sets) for (const row of set.rowIndex) sequences.add(ownerOf(row));
  return Array.from(sequences).sort((a, b) => a - b);
}

/** Number of sequences that some entries belong to. */
export function numSequencesOf(entries: Entries, ownerOf: (row: number) => number): number {
  return sequencesOf([entries], ownerOf).length;
}

const NAMED = 5;

/** `layer 3 experts 17, 42 (and 5 more)`. */
export function nameExperts(layer: number, experts: readonly number[]): string {
  const named = experts.slice(0, NAMED).join(', ');
  const more = experts.length > NAMED ? ` (and ${experts.length - NAMED} more)` : '';
  return `layer ${layer} expert${experts.length === 1 ? '' : 's'} ${named}${more}`;
}
