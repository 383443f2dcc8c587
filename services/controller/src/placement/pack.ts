import type { Draft } from './draft.ts';
import { LayerTimes } from './layer-times.ts';

/** What `pack` may use and what it goes for. */
export interface PackOptions {
  /** Workers that may get experts, by index. */
  usable: Uint8Array;
  /** Copies that each expert is to have, [layer*numExperts+expert]. */
  wanted: Int32Array;
  /** Microseconds that a copy is worth less on a worker that must load it. */
  loadUs: (worker: number, layer: number, expert: number) => number;
}

/**
 * Gives every expert the copies that it lacks, layer by layer, heaviest first, each to the worker with the least predicted
 * time that has room: first of all in a failure domain where the expert has no copy, then within the worker's share
 * of the layer, so that memory lasts for the layers to come. Copies that find no worker are left out.
 */
export function pack(draft: Draft, options: PackOptions): void {
  const { problem } = draft;
  const lacking = lackingCopies(draft, options.wanted);
  let rest = lacking.reduce((sum, count) => sum + count, 0);
  for (let layer = 0; layer < problem.numLayers; layer++) {
    const count = lacking[layer] as number;
    if (count === 0) continue;
    packLayer(draft, layer, options, caps(draft, options.usable, count / rest));
    rest -= count;
  }
}

function lackingCopies(draft: Draft, wanted: Int32Array): number[] {
  const { numExperts } = draft.problem;
  return draft.holders.map((experts, layer) =>
    experts.reduce(
      (sum, holders, expert) => sum + Math.max(0, (wanted[layer * numExperts + expert] as number) - holders.length),
      0,
    ),
  );
}

/** Copies that each worker takes of a layer: the layer's share of its room. */
function caps(draft: Draft, usable: Uint8Array, share: number): Int32Array {
  // A little less, so that a whole number is not rounded up for its last bit.
  return draft.free.map((free, worker) => (usable[worker] === 1 ? Math.ceil(free * share - 1e-9) : 0));
}

function packLayer(draft: Draft, layer: number, options: PackOptions, left: Int32Array): void {
  const { problem } = draft;
  const { wanted } = options;
  const begin = layer * problem.numExperts;
  const times = partialTimes(draft, layer, wanted);
  const each = (expert: number): number =>
    (problem.rows[begin + expert] as number) / (wanted[begin + expert] as number);
  const experts = Array.from({ length: problem.numExperts }, (_, expert) => expert)
    .filter((expert) => draft.of(layer, expert).length < (wanted[begin + expert] as number))
    .sort((a, b) => each(b) - each(a) || a - b);
  // First copies before second ones: they come first where memory is short, and second ones find other partners.
  const most = experts.reduce((sum, expert) => Math.max(sum, wanted[begin + expert] as number), 0);
  for (let copy = 1; copy <= most; copy++) {
    for (const expert of experts) {
      if ((wanted[begin + expert] as number) < copy || draft.of(layer, expert).length >= copy) continue;
      packCopy(draft, layer, expert, times, left, options);
    }
  }
}

/** Times of a layer in which experts count with the copies that they have of those that they are to have. */
function partialTimes({ problem, holders }: Draft, layer: number, wanted: Int32Array): LayerTimes {
  const times = new LayerTimes(problem);
  for (const [expert, workers] of (holders[layer] ?? []).entries()) {
    const key = layer * problem.numExperts + expert;
    const copies = wanted[key] as number;
    times.spread(((problem.rows[key] as number) * Math.min(workers.length, copies)) / copies, workers, 1);
  }
  return times;
}

function packCopy(
  draft: Draft,
  layer: number,
  expert: number,
  times: LayerTimes,
  left: Int32Array,
  options: PackOptions,
): void {
  const key = layer * draft.problem.numExperts + expert;
  const copies = options.wanted[key] as number;
  const worker = bestWorker(draft, { layer, expert, copies, times, left, ...options });
  if (worker === null) return;
  const holders = draft.of(layer, expert);
  const rows = draft.problem.rows[key] as number;
  // Until all copies are placed the expert counts with as many parts of its rows as there are copies.
  const part = (count: number): number => (rows * Math.min(count, copies)) / copies;
  times.spread(part(holders.length), holders, -1);
  draft.add(layer, expert, worker);
  times.spread(part(holders.length), holders, 1);
  left[worker] = (left[worker] as number) - 1;
}

/** A copy that looks for a worker. */
export interface Wanted {
  layer: number;
  expert: number;
  /** Copies that the expert is to have in the end; each gets its part of the rows. */
  copies: number;
  times: LayerTimes;
  usable: Uint8Array;
  /** Copies that workers may still take of the layer; they take more only where nobody else can. */
  left: Int32Array | null;
  loadUs: (worker: number, layer: number, expert: number) => number;
  newDomain?: boolean;
}

/** The worker that should get a copy, or null if none has room for it. */
export function bestWorker(draft: Draft, wanted: Wanted): number | null {
  const { problem } = draft;
  const { layer, expert, times, usable, left, loadUs } = wanted;
  const rows = (problem.rows[layer * problem.numExperts + expert] as number) / wanted.copies;
  const classes = classesWithRoom(draft, wanted);
  // Equal workers are taken in turn, so that the experts of one do not all have their copies on the same other one.
  const first = mixed(layer, expert, draft.of(layer, expert).length) % usable.length;
  let best: number | null = null;
  let bestRank = Infinity;
  let bestUs = Infinity;
  let bestRoom = 0;
  for (let step = 0; step < usable.length; step++) {
    const worker = (first + step) % usable.length;
    if (usable[worker] !== 1 || !draft.hasRoom(worker)) continue;
    const least = left !== null && (left[worker] as number) <= 0 ? 1 : 0;
    const us = times.timeWith(worker, rows) + loadUs(worker, layer, expert);
    const room = roomOf(draft, worker);
    // What cannot be better is told before what takes longer to tell.
    if (least > bestRank || (least === bestRank && !sooner(us, bestUs, room, bestRoom))) continue;
    if (!draft.fits(layer, expert, worker)) continue;
    if (classes !== null && !classes.has(problem.numerics[worker] as number)) continue;
    const shares = draft.sharesDomain(layer, expert, worker);
    if (shares && wanted.newDomain === true) continue;
    const rank = least + (shares ? 2 : 0);
    if (rank > bestRank || (rank === bestRank && !sooner(us, bestUs, room, bestRoom))) continue;
    bestRoom = room;
    best = worker;
    bestRank = rank;
    bestUs = us;
  }
  return best;
}

/** A number that looks random, from three. */
function mixed(a: number, b: number, c: number): number {
  let hash = Math.imul(a + 1, 0x9e3779b1) ^ Math.imul(b + 1, 0x85ebca77) ^ Math.imul(c + 1, 0xc2b2ae3d);
  hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
  return (hash ^ (hash >>> 13)) >>> 0;
}

/** Whether the first of two workers is less busy, or as busy with a larger part of its memory free. */
function sooner(us: number, otherUs: number, room: number, otherRoom: number): boolean {
  const slack = 1e-9 * otherUs;
  return us < otherUs - slack || (us <= otherUs + slack && room > otherRoom);
}

function roomOf({ free, problem }: Draft, worker: number): number {
  return (free[worker] as number) / (problem.slots[worker] as number);
}

/** Numerics classes with enough workers for all copies of an expert that has none yet; null where it does not matter. */
function classesWithRoom(draft: Draft, { layer, expert, copies, usable }: Wanted): Set<number> | null {
  const { problem } = draft;
  if (draft.of(layer, expert).length > 0 || !problem.input.allowMixedNumerics) return null;
  const room = new Map<number, number>();
  for (let worker = 0; worker < usable.length; worker++) {
    if (usable[worker] !== 1 || !draft.hasRoom(worker) || !draft.fits(layer, expert, worker)) continue;
    const numerics = problem.numerics[worker] as number;
    room.set(numerics, (room.get(numerics) ?? 0) + 1);
  }
  const most = Math.min(copies, Math.max(0, ...room.values()));
  return new Set([...room].filter(([, count]) => count >= most).map(([numerics]) => numerics));
}
