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
