import type { AssignInput } from './assign.ts';
import type { Assignment } from './types.ts';

/** What an assignment changes. */
export interface PlacementDiff {
  /** Copies that a worker must load. */
  loads: number;
  /** Copies that a worker may drop. */
  drops: number;
}

/** Counts the copies of experts that differ, by worker id. */
export function diffAssignments(before: Assignment | null, after: Assignment): PlacementDiff {
  let loads = 0;
  let drops = 0;
  for (const [layer, experts] of after.holders.entries()) {
    for (const [expert, holders] of experts.entries()) {
      const old = idsOf(before, before?.holders[layer]?.[expert] ?? []);
      const now = idsOf(after, holders);
      loads += [...now].filter((id) => !old.has(id)).length;
      drops += [...old].filter((id) => !now.has(id)).length;
    }
  }
  return { loads, drops };
}

function idsOf(assignment: Assignment | null, holders: readonly number[]): Set<string> {
  return new Set(holders.map((index) => assignment?.workers[index] ?? ''));
}

/**
 * True when an assignment need not change: it names exactly these workers, gives none more than fits or than it has the
 * files of, and every expert has as many copies as there is room for. A right assignment stays even if a fresh one would differ.
 */
export function isRight(assignment: Assignment, input: Omit<AssignInput, 'current'>): boolean {
  const { numLayers, numExperts, replicas } = input;
  const slots = new Map(input.workers.map((worker) => [worker.id, worker.slots]));
  if (assignment.workers.length !== slots.size || assignment.workers.some((id) => !slots.has(id))) return false;
  if (assignment.holders.length !== numLayers) return false;
  const experts = assignment.holders.flat();
  if (experts.length !== numLayers * numExperts || experts.some((holders) => holders.length === 0)) return false;
  const used = assignment.workers.map(() => 0);
  for (const index of experts.flat()) used[index] = (used[index] ?? 0) + 1;
  if (assignment.workers.some((id, index) => (used[index] ?? 0) > (slots.get(id) ?? 0))) return false;
  const byId = new Map(input.workers.map((worker) => [worker.id, worker]));
  const can = (index: number, layer: number, expert: number): boolean =>
    byId.get(assignment.workers[index] ?? '')?.can?.(layer, expert) ?? true;
  const copies = Math.min(replicas, slots.size);
  return assignment.holders.every((layer, l) =>
    layer.every((holders, e) => {
      if (holders.some((index) => !can(index, l, e))) return false;
      if (holders.length >= copies) return true;
      return assignment.workers.every((id, index) => {
        return holders.includes(index) || !can(index, l, e) || (used[index] ?? 0) >= (slots.get(id) ?? 0);
      });
    }),
  );
}
