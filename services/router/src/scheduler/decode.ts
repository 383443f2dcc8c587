import type { PagePool } from '../kv/page-pool.ts';
import { byRank, type Sequence } from '../sequence.ts';

/** What the choice asks of its surroundings. */
export interface DecodeHooks {
  /** Those of the ready sequences that may be in one step. */
  company: (ready: readonly Sequence[]) => readonly Sequence[];
  preempt: (seq: Sequence) => void;
}

/**
 * Sequences of the next decode step, each with a page for its next token. `active` is in order of urgency. When
 * pages run out, the least urgent sequence (those whose reader is slow before all others) is preempted; a sequence
 * whose only victim is in another step in flight sits this step out.
 */
export function chooseDecode(
  active: readonly Sequence[],
  pool: PagePool,
  { company, preempt }: DecodeHooks,
): Sequence[] {
  const ready = active.filter((seq) => seq.phase === 'decode' && !seq.inFlight && !seq.ended && !seq.sink.congested());
  const chosen: Sequence[] = [];
  for (const seq of company(ready)) {
    // Making room for one before it may have preempted this one.
    if (seq.phase !== 'decode' || seq.inFlight) continue;
    if (!makeRoom(seq, active, pool, preempt)) continue;
    seq.table.grow(pool, seq.numTokens);
    chosen.push(seq);
  }
  return chosen;
}

/** True once the pool has the page that `seq` needs next. */
function makeRoom(
  seq: Sequence,
  active: readonly Sequence[],
  pool: PagePool,
  preempt: (seq: Sequence) => void,
): boolean {
  while (!pool.can(seq.table.missing(seq.numTokens))) {
    const victim = victimFor(seq, active);
    if (victim === null) return false;
    preempt(victim);
    // Its pages come when its step, or its copy, has ended.
    if (victim === seq || victim.inFlight) return false;
  }
  return true;
}

/** Whom to preempt for `seq`: `seq` itself if all others are more urgent; null to wait for pages on their way. */
function victimFor(seq: Sequence, active: readonly Sequence[]): Sequence | null {
  // One that gives its pages up as soon as its step retires is enough to wait for.
  if (active.some((other) => other.inFlight && (other.preemptWanted || other.ended))) return null;
  const idle = active.filter((other) => other.phase === 'decode' && !other.inFlight && other.sink.congested());
  const least = idle.at(-1) ?? active.filter((other) => !other.ended).at(-1) ?? seq;
  if (least.inFlight) return least;
  return byRank(least, seq) < 0 && !idle.includes(least) ? seq : least;
}
