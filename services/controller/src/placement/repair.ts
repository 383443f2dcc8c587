import { inPlace, liveHolders } from './cost.ts';
import { Draft } from './draft.ts';
import { timesOf } from './layer-times.ts';
import { makeRoom } from './make-room.ts';
import { bestWorker, pack } from './pack.ts';
import type { Problem } from './problem.ts';
import { replicate } from './replicate.ts';
import type { Usable } from './usable.ts';

/** Chains that may fail one after the other before no more are tried: what fails often fails for want of memory. */
const MOST_FAILURES = 64;
/** An expert is replicated while a copy has more than this share of a worker's part of the layer. */
const REPLICATE_ABOVE = 0.25;
const MIB = 1024 * 1024;

/** An expert that nobody can take. */
export interface Uncovered {
  layer: number;
  expert: number;
}

/** Copies that every expert is to have as far as there are workers. */
export function leastWanted({ input }: Problem, { active }: Usable): number {
  return Math.max(1, Math.min(input.minReplicas, count(active)));
}

/** Rows of a copy up to which its expert is not replicated to spread load. */
export function enoughRows({ batchTokens, input }: Problem, active: Uint8Array): number {
  return (REPLICATE_ABOVE * batchTokens * input.topK) / Math.max(1, count(active));
}

function count(flags: Uint8Array): number {
  return flags.reduce((sum, flag) => sum + flag, 0);
}

/**
 * What can stay of the placement in force: copies on workers that take part, in so far as they fit. Without a placement
 * that is known, what workers hold, up to the copies that each expert is to have.
 */
export function keep(problem: Problem, usable: Usable): Draft {
  const draft = new Draft(problem);
  const candidates = candidatesOf(problem, usable);
  const most = problem.input.current === null ? leastWanted(problem, usable) : Infinity;
  for (let copy = 0, found = true; found && copy < most; copy++) {
    found = false;
    for (const [layer, experts] of candidates.entries()) {
      for (const [expert, workers] of experts.entries()) {
        if (workers.length <= copy) continue;
        found = true;
        const worker = workers.find((one) => draft.hasRoom(one) && draft.fits(layer, expert, one));
        if (worker !== undefined && draft.of(layer, expert).length <= copy) draft.add(layer, expert, worker);
      }
    }
  }
  return draft;
}

function candidatesOf(problem: Problem, { active }: Usable): number[][][] {
  const { input, workers } = problem;
  if (input.current !== null) {
    return liveHolders(problem, input.current).map((experts) =>
      experts.map((holders) => holders.filter((worker) => active[worker] === 1)),
    );
  }
  const able = workers.map((_, worker) => worker).filter((worker) => active[worker] === 1);
  return Array.from({ length: problem.numLayers }, (_, layer) =>
    Array.from({ length: problem.numExperts }, (__, expert) =>
      able.filter((worker) => input.held(workers[worker]?.id ?? '', layer, expert)),
    ),
  );
}

/**
 * Gives every expert the copies that it must have, in different failure domains, and moves nothing else unless it is in
 * the way. @returns an expert that nobody can take, or null when all are covered.
 */
export function repair(draft: Draft, usable: Usable, fresh: boolean): Uncovered | null {
  const { problem } = draft;
  const least = leastWanted(problem, usable);
  const loadUs = loadPrice(problem);
  pack(draft, { usable: usable.active, wanted: wantedCopies(draft, usable, least, fresh), loadUs });
  const uncovered = cover(draft, usable);
  if (uncovered !== null) return uncovered;
  complete(draft, usable, least);
  spreadDomains(draft, usable, least);
  return null;
}

/** Microseconds that a copy costs a worker that must load it. */
export type LoadUs = (worker: number, layer: number, expert: number) => number;

/** The price of loading a copy: nothing where the worker holds it. */
export function loadPrice(problem: Problem): LoadUs {
  const { expertBytes, weights } = problem.input;
  const price = (expertBytes / MIB) * weights.usPerMovedMib;
  const placed = inPlace(problem);
  return (worker, layer, expert) => (placed(worker, layer, expert) ? 0 : price);
}

/** Copies to go for within the memory that is left: one of each, then as many as there must be, then those that spread load. */
function wantedCopies(draft: Draft, { active }: Usable, least: number, fresh: boolean): Int32Array {
  const { problem } = draft;
  const { rows, numLayers, numExperts, input } = problem;
  const wanted = Int32Array.from(draft.holders.flat(), (holders) => holders.length);
  let budget = active.reduce((sum, flag, worker) => sum + (flag === 1 ? (draft.free[worker] as number) : 0), 0);
  const heaviest = Int32Array.from(wanted, (_, key) => key).sort(
    (a, b) => (rows[b] as number) - (rows[a] as number) || a - b,
  );
  for (let copies = 1; copies <= least; copies++) {
    for (const key of heaviest) {
      if (budget <= 0 || (wanted[key] as number) >= copies) continue;
      wanted[key] = copies;
      budget -= 1;
    }
  }
  if (!fresh) return wanted;
  // Nobody has two copies of an expert, so more than one per worker are no use.
  replicate(rows.subarray(0, numLayers * numExperts), wanted, {
    budget: Math.max(0, budget),
    most: Math.min(Math.max(input.maxReplicas, least), Math.max(1, count(active))),
    enough: enoughRows(problem, active),
  });
  return wanted;
}

/** Finds a place for experts without a copy, on draining workers if there is no other. */
function cover(draft: Draft, { active, draining }: Usable): Uncovered | null {
  const { problem } = draft;
  const placed = inPlace(problem);
  const anyDraining = draining.includes(1);
  const drainers = problem.workers.map((_, worker) => worker).filter((worker) => draining[worker] === 1);
  const missing = keysWhere(draft, (holders) => holders.length === 0);
  // Room on those that stay goes first to what no draining worker holds anyway.
  const onDraining = ([layer, expert]: [number, number]): number =>
    drainers.some((worker) => placed(worker, layer, expert)) ? 1 : 0;
  if (anyDraining) missing.sort((a, b) => onDraining(a) - onDraining(b));
  const spare = (layer: number, expert: number): boolean => draft.of(layer, expert).length > 1;
  for (const [layer, expert] of missing) {
    const request = { layer, expert, spare, newDomain: false };
    if (makeRoom(draft, { ...request, usable: (worker) => active[worker] === 1 })) continue;
    if (!anyDraining) return { layer, expert };
    const holder = drainers.find(
      (worker) => placed(worker, layer, expert) && draft.hasRoom(worker) && draft.fits(layer, expert, worker),
    );
    if (holder !== undefined) draft.add(layer, expert, holder);
    else if (!makeRoom(draft, { ...request, usable: (worker) => active[worker] === 1 || draining[worker] === 1 }))
      return { layer, expert };
  }
  return null;
}

/** Layer and expert of those whose holders pass, heaviest first. */
function keysWhere({ problem, holders }: Draft, test: (holders: readonly number[]) => boolean): [number, number][] {
  const { rows, numExperts } = problem;
  const keys: number[] = [];
  for (const [key, workers] of holders.flat().entries()) if (test(workers)) keys.push(key);
  keys.sort((a, b) => (rows[b] as number) - (rows[a] as number) || a - b);
  return keys.map((key) => [Math.floor(key / numExperts), key % numExperts]);
}

/** Adds copies to experts that have fewer than they must, where packing alone found no place. */
function complete(draft: Draft, usable: Usable, least: number): void {
  const isDraining = (holders: readonly number[]): boolean => holders.some((worker) => usable.draining[worker] === 1);
  let failures = 0;
  for (const [layer, expert] of keysWhere(draft, (holders) => holders.length < least && !isDraining(holders))) {
    while (draft.of(layer, expert).length < least && failures < MOST_FAILURES) {
      const added =
        addCopy(draft, usable, layer, expert, least, true) || addCopy(draft, usable, layer, expert, least, false);
      failures = added ? 0 : failures + 1;
      if (!added) break;
    }
  }
}

function addCopy(
  draft: Draft,
  usable: Usable,
  layer: number,
  expert: number,
  least: number,
  newDomain: boolean,
): boolean {
  const { problem } = draft;
  const { active } = usable;
  const times = timesOf(problem, layer, draft.holders[layer] as number[][]);
  const copies = Math.max(least, draft.of(layer, expert).length + 1);
  const loadUs = loadPrice(problem);
  const worker = bestWorker(draft, { layer, expert, copies, times, usable: active, left: null, loadUs, newDomain });
  if (worker !== null) {
    draft.add(layer, expert, worker);
    return true;
  }
  const spare = (l: number, e: number): boolean => draft.of(l, e).length > least;
  return makeRoom(draft, { layer, expert, usable: (one) => active[one] === 1, spare, newDomain });
}

/** Moves copies that share a failure domain to another one, where there is another. */
function spreadDomains(draft: Draft, usable: Usable, least: number): void {
  const { domain } = draft.problem;
  const domains = new Set(domain.filter((_, worker) => usable.active[worker] === 1)).size;
  const lacks = (holders: readonly number[]): boolean =>
    new Set(holders.map((worker) => domain[worker])).size < Math.min(least, holders.length, domains);
  let failures = 0;
  for (const [layer, expert] of keysWhere(draft, lacks)) {
    while (lacks(draft.of(layer, expert)) && failures < MOST_FAILURES) {
      const doubled = [...draft.of(layer, expert)]
        .reverse()
        .find((worker) => draft.sharesDomain(layer, expert, worker, worker));
      if (doubled === undefined) break;
      draft.remove(layer, expert, doubled);
      const moved = addCopy(draft, usable, layer, expert, least, true);
      failures = moved ? 0 : failures + 1;
      if (moved) continue;
      draft.add(layer, expert, doubled);
      break;
    }
  }
}
