/** A worker as the assignment sees it. */
export interface AssignWorker {
  id: string;
  /** Experts that fit in its memory. */
  slots: number;
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
    .map(({ id, slots }) => ({ id, slots: Math.min(slots, neededSlots) }))
    .sort((a, b) => (a.id < b.id ? -1 : 1));
  const slots = workers.reduce((sum, worker) => sum + worker.slots, 0);
  if (slots < neededSlots || workers.length === 0) return { neededSlots, slots };
  const state: State = {
    input,
    workers,
    indexOf: new Map(workers.map((worker, index) => [worker.id, index])),
    holders: table(input, () => []),
    used: workers.map(() => 0),
  };
  const copies = Math.min(input.replicas, workers.length);
  for (let copy = 0; copy < copies; copy++) addCopy(state);
  for (const layer of state.holders) for (const holders of layer) holders.sort((a, b) => a - b);
  return { workers: workers.map((worker) => worker.id), holders: state.holders };
}

export function isShortage(result: Assignment | Shortage): result is Shortage {
  return 'neededSlots' in result;
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
        if (worker !== undefined && !holders.includes(worker) && !candidates.includes(worker)) candidates.push(worker);
      }
      return candidates;
    }),
  );
}

/**
 * Experts per layer and worker: the whole part of a worker's share, and one more for as many workers as it takes to
 * cover the layer: first those that have one more in place, then those that are furthest behind over the layers.
 */
function layerQuotas(state: State, inPlace: number[][][]): number[][] {
  const { numExperts } = state.input;
  const slots = state.workers.reduce((sum, worker) => sum + worker.slots, 0);
  const shares = state.workers.map((worker) => (numExperts * worker.slots) / slots);
  const total = state.workers.map(() => 0);
  return inPlace.map((experts, layer) => {
    const row = shares.map(Math.floor);
    const missing = numExperts - row.reduce((sum, count) => sum + count, 0);
    const extras = state.workers
      .map((_, worker) => ({
        worker,
        inPlace: experts.filter((candidates) => candidates[0] === worker).length > at(row, worker) ? 1 : 0,
        behind: at(shares, worker) * (layer + 1) - at(total, worker) - at(row, worker),
      }))
      .filter(({ worker }) => at(shares, worker) > at(row, worker))
      .sort((a, b) => b.inPlace - a.inPlace || b.behind - a.behind || a.worker - b.worker);
    for (const { worker } of extras.slice(0, missing)) row[worker] = at(row, worker) + 1;
    for (const [worker, count] of row.entries()) total[worker] = at(total, worker) + count;
    return row;
  });
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
    .filter((worker) => hasRoom(state, worker) && !holders.includes(worker));
  const wanting = free.filter(below);
  const pool = wanting.length > 0 ? wanting : free;
  return pool.find((worker) => inPlace.includes(worker)) ?? pool[0] ?? null;
}
