import type { PlannedSnapshot } from '../kv/sequence-prefix.ts';
import type { Sequence } from '../sequence.ts';
import type { PrefillItem } from './prefill.ts';
import type { DecodePlan, PrefillPlan } from './scheduler.ts';

type Plan = DecodePlan | PrefillPlan;

/** The snapshot that a step was to take of a sequence. */
export function snapshotOf(plan: Plan, seq: Sequence): PlannedSnapshot | null {
  return plan.lane === 'decode' ? (plan.snapshots.get(seq) ?? null) : (itemOf(plan, seq)?.snapshot ?? null);
}

/** Tokens of a sequence that are in place once its part of a step has succeeded. */
export function reachOf(plan: Plan, seq: Sequence): number {
  const item = plan.lane === 'decode' ? undefined : itemOf(plan, seq);
  return item === undefined ? seq.numTokens : item.chunk.start + item.chunk.count;
}

function itemOf(plan: PrefillPlan, seq: Sequence): PrefillItem | undefined {
  return plan.items.find((item) => item.seq === seq);
}
