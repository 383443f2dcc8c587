import type { PlanCost } from '../../placement/types.ts';
import type { PlacementRecord } from '../../store/placement-store.ts';
import type { Observed } from './observed.ts';
import type { Trigger } from './triggers.ts';

/** Why an epoch was made, in plain words. */
export function reasonOf(
  { kind }: Trigger,
  { why, assignment }: { why: string; assignment: { workers: readonly string[] } },
  known: PlacementRecord | null,
  { live, draining, stalled }: Observed,
): string {
  if (kind === 'first' || known === null) return why;
  if (kind === 'model') return `another model is served, by ${assignment.workers.length} workers`;
  if (kind === 'load') return `load: ${why}`;
  const alive = new Set(live.workers.map((worker) => worker.id));
  const placed = new Set(known.assignment.workers);
  const parts = [
    part(
      'lost',
      known.assignment.workers.filter((id) => !alive.has(id)),
    ),
    part(
      'drained',
      [...draining].filter((id) => placed.has(id)),
    ),
    part('stuck in loading', [...stalled]),
    part(
      'joined',
      assignment.workers.filter((id) => !placed.has(id)),
    ),
  ].filter((text) => text !== '');
  return parts.length > 0 ? parts.join('; ') : 'memory, files or copies have changed';
}

function part(what: string, ids: readonly string[]): string {
  return ids.length === 0 ? '' : `${what}: ${[...ids].sort().join(' ')}`;
}

/** A cost as events show it: rounded to what means something. */
export function describeCost(cost: PlanCost): Record<string, number> {
  const { stepUs, imbalance, workersPerToken, bytesMoved, leastCopies, leastDomains } = cost;
  const rounded = (value: number): number => Math.round(value * 1000) / 1000;
  return {
    stepUs: Math.round(stepUs),
    imbalance: rounded(imbalance),
    workersPerToken: rounded(workersPerToken),
    bytesMoved,
    leastCopies,
    leastDomains,
  };
}
