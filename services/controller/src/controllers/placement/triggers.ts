import { sharesOf } from '../../placement-shares.ts';
import type { PlacementRecord } from '../../store/placement-store.ts';
import type { WorkerInfo } from '../../store/worker-store.ts';
import { sameModel } from '../workers/model-choice.ts';
import type { Observed } from './observed.ts';

/** Why a placement is to be planned now. */
export interface Trigger {
  kind: 'first' | 'model' | 'lost' | 'drain' | 'joined' | 'changed' | 'load';
  /** Also while workers still load the epoch before: what is lost does not wait. */
  urgent: boolean;
}

/** What the last plan took into account, so that the same is not planned again. */
export interface Considered {
  /** Workers that were there, by id. */
  workers: ReadonlySet<string>;
  /** Who drained or was stalled. */
  exempt: string;
  /** Memory, files and failure domains. */
  facts: string;
  draining: ReadonlySet<string>;
}

export function considered(observed: Observed): Considered {
  const { live, draining, stalled } = observed;
  return {
    workers: new Set(live.workers.map((worker) => worker.id)),
    exempt: JSON.stringify([[...draining].sort(), [...stalled].sort()]),
    facts: JSON.stringify(live.workers.map(factsOf)),
    draining,
  };
}

function factsOf({ id, capacityBytes, expertBytes, failureDomain, loadable }: WorkerInfo): unknown {
  const files = loadable === null ? null : [...loadable].map(([layer, experts]) => [layer, [...experts]]);
  return [id, capacityBytes, expertBytes, failureDomain, files];
}

/** What asks for a plan, the most pressing first; null where nothing has changed since `before`. */
export function triggerOf(
  known: PlacementRecord | null,
  before: Considered | null,
  now: Considered,
  observed: Observed,
): Trigger | null {
  const { model, workers } = observed.live;
  if (known === null) return { kind: 'first', urgent: true };
  if (model !== null && !sameModel(known, model)) return { kind: 'model', urgent: true };
  if (known.assignment.workers.some((id) => !now.workers.has(id))) return { kind: 'lost', urgent: true };
  if (before === null ? observed.draining.size + observed.stalled.size > 0 : before.exempt !== now.exempt)
    return { kind: 'drain', urgent: true };
  const seen = before?.workers ?? new Set(known.assignment.workers);
  if (workers.some(({ id }) => !seen.has(id))) return { kind: 'joined', urgent: false };
  // A worker whose memory ran out says that it has less: it cannot load the rest of what it was given.
  if (before?.facts !== now.facts) return { kind: 'changed', urgent: overfull(known, observed) };
  return null;
}

function overfull(known: PlacementRecord, { live }: Observed): boolean {
  const shares = sharesOf(live.workers, known);
  return live.workers.some(
    ({ id, expertBytes, capacityBytes }) => (shares.get(id)?.given ?? 0) * expertBytes > capacityBytes,
  );
}
