import type { Clock, Timer } from '@guildhall/common';
import type { Assignment, ExpertShape, Holdings } from './holdings.ts';
import type { HolderTable } from './plan.ts';

/** What planning needs of a worker. */
export interface ViewWorker {
  readonly id: string;
  readonly ready: boolean;
}

/** Who can compute which expert, at one moment; immutable. */
export interface ExpertView<W extends ViewWorker> {
  /** Placement epoch that it is made from, 0 for none. */
  epoch: number;
  workers: readonly W[];
  holders: HolderTable;
  /** (layer, expert) pairs that no ready worker holds. */
  missing: number;
  firstMissing: { layer: number; expert: number } | null;
  total: number;
}

/** A view in use by a step. */
export interface PinnedView<W extends ViewWorker> {
  readonly view: ExpertView<W>;
  /** The step is over; calling it again does nothing. */
  release(): void;
}

/** Ready workers and what they hold, in order of their ids. */
export type Holders<W extends ViewWorker> = readonly { worker: W; held: Holdings }[];

/**
 * Makes a view. Holders of an expert are the ready workers that the placement assigns it to and that hold it; if
 * there is none, any that hold it, since an expert is the same wherever it is computed.
 */
export function buildView<W extends ViewWorker>(
  assignment: Assignment | null,
  holders: Holders<W>,
  shape: ExpertShape,
): ExpertView<W> {
  const total = shape.numLayers * shape.numExperts;
  const start = new Int32Array(total + 1);
  const list: number[] = [];
  const indexOf = new Map(holders.map(({ worker }, index) => [worker.id, index]));
  let missing = 0;
  let first = -1;
  for (let key = 0; key < total; key++) {
    const before = list.length;
    if (assignment !== null) pushAssigned(assignment, key, holders, indexOf, list);
    if (list.length === before) {
      for (const [index, { held }] of holders.entries()) {
        if (held[key] === 1) list.push(index);
      }
    }
    if (list.length === before) {
      missing += 1;
      if (first < 0) first = key;
    }
    start[key + 1] = list.length;
  }
  return {
    epoch: assignment?.epoch ?? 0,
    workers: holders.map(({ worker }) => worker),
    holders: { numExperts: shape.numExperts, start, list: Int32Array.from(list) },
    missing,
    firstMissing: first < 0 ? null : { layer: Math.floor(first / shape.numExperts), expert: first % shape.numExperts },
    total,
  };
}

/** Experts without a ready worker, of the first layer that lacks any, and how many other pairs there are. */
export interface MissingExperts {
  layer: number;
  experts: number[];
  /** (layer, expert) pairs of other layers. */
  others: number;
}

/** What a view lacks; null when it lacks nothing. */
export function missingExperts({ holders, firstMissing, missing }: ExpertView<ViewWorker>): MissingExperts | null {
  if (firstMissing === null) return null;
  const { layer } = firstMissing;
  const base = layer * holders.numExperts;
  const experts: number[] = [];
  for (let expert = firstMissing.expert; expert < holders.numExperts; expert++) {
    if (holders.start[base + expert] === holders.start[base + expert + 1]) experts.push(expert);
  }
  return { layer, experts, others: missing - experts.length };
}

function pushAssigned<W extends ViewWorker>(
  { ids, start, list }: Assignment,
  key: number,
  holders: Holders<W>,
  indexOf: ReadonlyMap<string, number>,
  into: number[],
): void {
  const from = into.length;
  for (let i = start[key] as number; i < (start[key + 1] as number); i++) {
    const index = indexOf.get(ids[list[i] as number] ?? '');
    if (index !== undefined && holders[index]?.held[key] === 1 && !into.includes(index, from)) into.push(index);
  }
}

/** True when every expert of the placement is held by a ready worker that it is assigned to. */
export function fullyHeld<W extends ViewWorker>(assignment: Assignment, holders: Holders<W>): boolean {
  const byId = new Map(holders.map(({ worker, held }) => [worker.id, held]));
  const { ids, start, list } = assignment;
  for (let key = 0; key + 1 < start.length; key++) {
    let held = false;
    for (let i = start[key] as number; !held && i < (start[key + 1] as number); i++) {
      held = byId.get(ids[list[i] as number] ?? '')?.[key] === 1;
    }
    if (!held) return false;
  }
  return true;
}

/** Changes of holdings come in bursts while a worker loads; one view is made for those within this time. */
const SETTLE_MS = 20;

export interface ExpertViewsOptions<W extends ViewWorker> {
  shape: ExpertShape;
  clock: Clock;
  /** Workers that are connected or being connected. */
  workers: () => readonly W[];
}

/**
 * The view in force, made again whenever the placement, the connections or the holdings change. A newer placement
 * comes into force between two steps, once all its experts are held; each step pins the view that it began with.
 */
export class ExpertViews<W extends ViewWorker> {
  readonly #options: ExpertViewsOptions<W>;
  readonly #held = new Map<W, Holdings>();
  readonly #pins = new Map<PinnedView<W>, number>();
  readonly #listeners = new Set<() => void>();
  #newest: Assignment | null = null;
  #inForce: Assignment | null = null;
  #view: ExpertView<W>;
  #settling: Timer | null = null;
  /** Newest epoch that was complete when a step could begin with it. */
  #completeEpoch = 0;
  #uncoveredSinceMs: number | null;

  constructor(options: ExpertViewsOptions<W>) {
    this.#options = options;
    this.#view = buildView<W>(null, [], options.shape);
    this.#uncoveredSinceMs = options.clock.monotonicMs();
  }

  /** The view in force. */
  get latest(): ExpertView<W> {
    return this.#view;
  }

  /** Every expert has a ready holder. */
  get covered(): boolean {
    return this.#view.missing === 0;
  }

  /** Monotonic time since when some expert has no holder; null while all have. */
  get uncoveredSinceMs(): number | null {
    return this.#uncoveredSinceMs;
  }

  /** Epoch that this router no longer looks behind: no step uses an older one, none will. */
  get ackedEpoch(): number {
    return Math.min(this.#completeEpoch, ...this.#pins.values());
  }

  /** Takes the view in force for a step. */
  pin(): PinnedView<W> {
    const view = this.#view;
    const pin: PinnedView<W> = {
      view,
      release: () => {
        if (this.#pins.delete(pin)) this.#emit();
      },
    };
    this.#pins.set(pin, view.epoch);
    return pin;
  }

  /** Calls `listener` after every change until the returned function is called. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }

  setPlacement(assignment: Assignment): void {
    if (this.#newest !== null && assignment.epoch <= this.#newest.epoch) return;
    this.#newest = assignment;
    this.rebuild();
  }

  /** What a worker says it holds. */
  setHeld(worker: W, held: Holdings): void {
    this.#held.set(worker, held);
    this.#settling ??= this.#options.clock.setTimer(SETTLE_MS, () => this.rebuild());
  }

  /** What a worker was found not to hold, in force at once. */
  clearHeld(worker: W, layer: number, experts: Iterable<number>): void {
    const held = this.#held.get(worker);
    if (held === undefined) return;
    for (const expert of experts) held[layer * this.#options.shape.numExperts + expert] = 0;
    this.rebuild();
  }

  /** True once the worker has said what it holds. */
  knows(worker: W): boolean {
    return this.#held.has(worker);
  }

  /** Makes the view again, because connections changed. */
  rebuild(): void {
    this.#settling?.cancel();
    this.#settling = null;
    const workers = this.#options.workers();
    for (const worker of this.#held.keys()) {
      if (!workers.includes(worker)) this.#held.delete(worker);
    }
    const holders = workers
      .filter((worker) => worker.ready)
      .flatMap((worker) => {
        const held = this.#held.get(worker);
        return held === undefined ? [] : [{ worker, held }];
      });
    if (this.#newest !== this.#inForce && this.#newest !== null) {
      if (this.#inForce === null || fullyHeld(this.#newest, holders)) this.#inForce = this.#newest;
    }
    this.#view = buildView(this.#inForce, holders, this.#options.shape);
    if (this.#view.missing === 0) {
      this.#completeEpoch = this.#view.epoch;
      this.#uncoveredSinceMs = null;
    } else {
      this.#uncoveredSinceMs ??= this.#options.clock.monotonicMs();
    }
    this.#emit();
  }

  stop(): void {
    this.#settling?.cancel();
    this.#listeners.clear();
  }

  #emit(): void {
    // A listener may take itself off, or put others on.
    const listeners = Array.from(this.#listeners);
    for (const listener of listeners) listener();
  }
}
