/** A worker as the assignment sees it. */
export interface AssignWorker {
  id: string;
  /** Experts that fit in its memory. */
  slots: number;
  /** Which experts it has the files of; null for all. */
  can?: ((layer: number, expert: number) => boolean) | null;
}

export interface AssignInput {
  numLayers: number;
  numExperts: number;
  workers: readonly AssignWorker[];
  /** Ids of the workers that have the expert now, the preferred one first; they may be gone. */
  current: (layer: number, expert: number) => readonly string[];
  /** Copies of each expert, as far as workers and memory allow; at least 1. */
  replicas: number;
}

/** Worker indexes of each expert, ascending: holders[layer][expert]. */
export interface Assignment {
  /** Ids, sorted; holders refer to them by index. */
  workers: string[];
  holders: number[][][];
}

/** Why nothing can be assigned. */
export interface Shortage {
  neededSlots: number;
  slots: number;
  /** An expert that no worker can take though there are slots enough, since some have the files of a part only. */
  nobody: { layer: number; expert: number } | null;
}

interface State {
  input: AssignInput;
  workers: AssignWorker[];
  indexOf: Map<string, number>;
  holders: number[][][];
  /** Slots in use, per worker. */
  used: number[];
}

/**
 * Assigns every expert of every layer to workers: each layer is spread in proportion to the workers' memory, no
 * worker gets more than fits, an expert stays where it is unless its worker has more than its share, and experts
 * that must move go in ascending runs to workers in order of their ids. The result depends on the arguments alone.
 *
 * Three steps for each copy: shares per layer and worker (`quotas`); keep what is in place within the shares;
 * give the rest to who is below its share.
 */
export function assign(input: AssignInput): Assignment | Shortage {
  const neededSlots = input.numLayers * input.numExperts;
  // Room for more than all experts is no reason to get a larger share.
  const workers = input.workers
    .map((worker) => ({ ...worker, slots: Math.min(worker.slots, loadableCount(input, worker)) }))
    .sort((a, b) => (a.id < b.id ? -1 : 1));
  const slots = workers.reduce((sum, worker) => sum + worker.slots, 0);
  if (slots < neededSlots || workers.length === 0) return { neededSlots, slots, nobody: null };
  const state: State = {
    input,
    workers,
    indexOf: new Map(workers.map((worker, index) => [worker.id, index])),
    holders: table(input, () => []),
    used: workers.map(() => 0),
  };
  const copies = Math.min(input.replicas, workers.length);
  for (let copy = 0; copy < copies; copy++) addCopy(state);
  const nobody = firstWithout(state);
  if (nobody !== null) return { neededSlots, slots, nobody };
  for (const layer of state.holders) for (const holders of layer) holders.sort((a, b) => a - b);
  return { workers: workers.map((worker) => worker.id), holders: state.holders };
}

export function isShortage(result: Assignment | Shortage): result is Shortage {
  return 'neededSlots' in result;
}

function can(worker: AssignWorker, layer: number, expert: number): boolean {
  return worker.can?.(layer, expert) ?? true;
}

/** Experts that a worker could hold if it had the memory. */
function loadableCount(input: AssignInput, worker: AssignWorker): number {
  if (!worker.can) return input.numLayers * input.numExperts;
  let count = 0;
  for (let layer = 0; layer < input.numLayers; layer++) {
    for (let expert = 0; expert < input.numExperts; expert++) if (can(worker, layer, expert)) count += 1;
  }
  return count;
}

function firstWithout(state: State): { layer: number; expert: number } | null {
  for (const [layer, experts] of state.holders.entries()) {
    const expert = experts.findIndex((holders) => holders.length === 0);
    if (expert !== -1) return { layer, expert };
  }
  return null;
}

function table<T>(input: AssignInput, make: () => T): T[][] {
  return Array.from({ length: input.numLayers }, () => Array.from({ length: input.numExperts }, make));
}

/** Adds one holder to each expert; copies after the first may find no room. */
function addCopy(state: State): void {
  const inPlace = currentHolders(state);
  const quotas = layerQuotas(state, inPlace);
  const given = state.holders.map(() => state.workers.map(() => 0));
  const give = (layer: number, expert: number, worker: number): void => {
    state.holders[layer]?.[expert]?.push(worker);
    state.used[worker] = at(state.used, worker) + 1;
    const row = given[layer];
    if (row !== undefined) row[worker] = at(row, worker) + 1;
  };
  const below = (layer: number, worker: number): boolean => at(given[layer], worker) < at(quotas[layer], worker);
  const rest: [number, number][] = [];
  for (const [layer, experts] of inPlace.entries()) {
    for (const [expert, candidates] of experts.entries()) {
      const keeper = candidates.find((worker) => below(layer, worker) && hasRoom(state, worker));
      if (keeper === undefined) rest.push([layer, expert]);
      else give(layer, expert, keeper);
    }
  }
  for (const [layer, expert] of rest) {
    const taker = findTaker(state, layer, expert, inPlace[layer]?.[expert] ?? [], (worker) => below(layer, worker));
    if (taker !== null) give(layer, expert, taker);
  }
}

function at(row: readonly number[] | undefined, index: number): number {
  return row?.[index] ?? 0;
}

function hasRoom(state: State, worker: number): boolean {
  return at(state.used, worker) < (state.workers[worker]?.slots ?? 0);
}

/** Workers that have each expert now and do not hold a copy of it in this assignment yet. */
function currentHolders(state: State): number[][][] {
  return state.holders.map((experts, layer) =>
    experts.map((holders, expert) => {
      const candidates: number[] = [];
      for (const id of state.input.current(layer, expert)) {
        const worker = state.indexOf.get(id);
        if (worker === undefined || holders.includes(worker) || candidates.includes(worker)) continue;
        if (can(state.workers[worker] as AssignWorker, layer, expert)) candidates.push(worker);
      }
      return candidates;
    }),
  );
}

/**
 * Experts per layer and worker: the whole part of a worker's share, and one more for as many workers as it takes to
 * cover the layer: first those that have one more in place, then those that are furthest behind over the layers. Workers
 * that have the files of no expert of a layer have no share of it.
 */
function layerQuotas(state: State, inPlace: number[][][]): number[][] {
  const { numExperts } = state.input;
  const total = state.workers.map(() => 0);
  // What the shares so far add up to: they are the same in all layers only where every worker can take every expert.
  const due = state.workers.map(() => 0);
  return inPlace.map((experts, layer) => {
    const shares = layerShares(state, layer);
    for (const [worker, share] of shares.entries()) due[worker] = at(due, worker) + share;
    const row = shares.map(Math.floor);
    const missing = numExperts - row.reduce((sum, count) => sum + count, 0);
    const extras = state.workers
      .map((_, worker) => ({
        worker,
        inPlace: experts.filter((candidates) => candidates[0] === worker).length > at(row, worker) ? 1 : 0,
        behind: at(due, worker) - at(total, worker) - at(row, worker),
      }))
      .filter(({ worker }) => at(shares, worker) > at(row, worker))
      .sort((a, b) => b.inPlace - a.inPlace || b.behind - a.behind || a.worker - b.worker);
    for (const { worker } of extras.slice(0, missing)) row[worker] = at(row, worker) + 1;
    for (const [worker, count] of row.entries()) total[worker] = at(total, worker) + count;
    return row;
  });
}

/** Experts of a layer that fall to each worker by its memory, as fractions. */
function layerShares(state: State, layer: number): number[] {
  const { numExperts } = state.input;
  const experts = Array.from({ length: numExperts }, (_, expert) => expert);
  const weights = state.workers.map((worker) =>
    !worker.can || experts.some((expert) => can(worker, layer, expert)) ? worker.slots : 0,
  );
  const slots = weights.reduce((sum, weight) => sum + weight, 0);
  return weights.map((weight) => (slots === 0 ? 0 : (numExperts * weight) / slots));
}

/** Who takes an expert: below its share before above it, its present worker before others, then by order. */
function findTaker(
  state: State,
  layer: number,
  expert: number,
  inPlace: number[],
  below: (worker: number) => boolean,
): number | null {
  const holders = state.holders[layer]?.[expert] ?? [];
  const free = state.workers
    .map((_, worker) => worker)
    .filter((worker) => hasRoom(state, worker) && !holders.includes(worker))
    .filter((worker) => can(state.workers[worker] as AssignWorker, layer, expert));
  const wanting = free.filter(below);
  const pool = wanting.length > 0 ? wanting : free;
  return pool.find((worker) => inPlace.includes(worker)) ?? pool[0] ?? null;
}
