import type { Draft } from './draft.ts';

export interface RoomRequest {
  layer: number;
  expert: number;
  /** Workers that may take part. */
  usable: (worker: number) => boolean;
  /** Whether a copy of an expert may be given up. */
  spare: (layer: number, expert: number) => boolean;
  /** Only workers in failure domains where the expert has no copy. */
  newDomain: boolean;
}

/** A copy that must move from `from` so that the one before it in the chain can have its place. */
interface Step {
  from: number;
  layer: number;
  expert: number;
}

/**
 * Adds a copy of an expert to a full worker by moving another copy on, that one perhaps to a full worker too, and so on:
 * the shortest chain that ends at a worker with room, or at a copy that may be given up. When only first copies count
 * this finds a place whenever there is one. @returns false, with nothing changed, if there is none.
 */
export function makeRoom(draft: Draft, request: RoomRequest): boolean {
  const { layer, expert, usable, newDomain } = request;
  const workers = draft.problem.workers.map((_, worker) => worker).filter(usable);
  const seen = new Set<number>();
  const queue: number[] = [];
  const cause = new Map<number, Step>();
  for (const worker of workers) {
    if (!draft.fits(layer, expert, worker) || (newDomain && draft.sharesDomain(layer, expert, worker))) continue;
    seen.add(worker);
    queue.push(worker);
  }
  const direct = queue.find((worker) => draft.hasRoom(worker));
  if (direct !== undefined) {
    draft.add(layer, expert, direct);
    return true;
  }
  const open = workers.filter((worker) => draft.hasRoom(worker));
  const onWorker = copiesByWorker(draft);
  for (const from of queue) {
    const copies = onWorker[from] ?? [];
    const end = shortEnd(draft, request, from, copies, open);
    if (end !== null) {
      unwind(draft, request, cause, end);
      return true;
    }
    for (const copy of copies) {
      for (const worker of workers) {
        if (seen.has(worker) || !mayMove(draft, copy, worker)) continue;
        seen.add(worker);
        cause.set(worker, copy);
        queue.push(worker);
      }
    }
  }
  return false;
}

/** A copy on `from` that can go at once: to a worker with room (`to`), or altogether (null). */
function shortEnd(
  draft: Draft,
  { spare }: RoomRequest,
  from: number,
  copies: readonly Step[],
  open: readonly number[],
): { copy: Step; to: number | null } | null {
  for (const copy of copies) {
    const to = open.find((worker) => worker !== from && mayMove(draft, copy, worker));
    if (to !== undefined) return { copy, to };
  }
  const copy = copies.find((one) => spare(one.layer, one.expert));
  return copy === undefined ? null : { copy, to: null };
}

/** Whether a copy may be on another worker instead, with no fewer failure domains. */
function mayMove(draft: Draft, { from, layer, expert }: Step, worker: number): boolean {
  if (!draft.fits(layer, expert, worker, from)) return false;
  return !draft.sharesDomain(layer, expert, worker, from) || draft.sharesDomain(layer, expert, from, from);
}

/** Makes the moves from the end of the chain to its beginning, and adds the wanted copy. */
function unwind(
  draft: Draft,
  { layer, expert }: RoomRequest,
  cause: ReadonlyMap<number, Step>,
  end: { copy: Step; to: number | null },
): void {
  let { copy, to } = end;
  for (;;) {
    draft.remove(copy.layer, copy.expert, copy.from);
    if (to !== null) draft.add(copy.layer, copy.expert, to);
    to = copy.from;
    const before = cause.get(to);
    if (before === undefined) break;
    copy = before;
  }
  draft.add(layer, expert, to);
}

function copiesByWorker(draft: Draft): Step[][] {
  const copies: Step[][] = draft.problem.workers.map(() => []);
  for (const [layer, experts] of draft.holders.entries()) {
    for (const [expert, holders] of experts.entries()) {
      for (const from of holders) copies[from]?.push({ from, layer, expert });
    }
  }
  return copies;
}
