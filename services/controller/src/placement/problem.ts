import type { PlanInput, PlanWorker } from './types.ts';

/** A plan's input in the form that the planner computes with: workers by index in order of their ids. */
export interface Problem {
  readonly input: PlanInput;
  readonly numLayers: number;
  readonly numExperts: number;
  /** Sorted by id; the order of the input does not matter. */
  readonly workers: readonly PlanWorker[];
  readonly indexOf: ReadonlyMap<string, number>;
  /** Experts that fit into each worker's memory, over all layers. */
  readonly slots: Int32Array;
  /** Number of each worker's failure domain; a worker without one has its own. */
  readonly domain: Int32Array;
  /** Number of each worker's numerics class. */
  readonly numerics: Int32Array;
  /** Microseconds for a row and for a message; where a worker has not measured, the mean of those that have. */
  readonly usPerRow: Float64Array;
  readonly usPerMessage: Float64Array;
  /** Rows per microsecond, by which the rows of an expert are split between its holders. */
  readonly speed: Float64Array;
  /** Tokens of a step, at least 1. */
  readonly batchTokens: number;
  /** Rows of each expert in a step, [layer*numExperts+expert]. */
  readonly rows: Float64Array;
  /** Sampled sets of each layer, [n][topK] flat, no more than tell something; null where there are none. */
  readonly samples: readonly (Uint16Array | null)[];
}

/** Sampled tokens of a layer that count; more would cost time and tell little. */
const MOST_TOKENS = 2048;

/** Brings a plan's input into the planner's form. */
export function prepare(input: PlanInput): Problem {
  const workers = [...input.workers].sort((a, b) => (a.id < b.id ? -1 : 1));
  const usPerRow = measured(
    workers.map((worker) => worker.usPerRow),
    1,
  );
  return {
    input,
    numLayers: input.numLayers,
    numExperts: input.numExperts,
    workers,
    indexOf: new Map(workers.map((worker, index) => [worker.id, index])),
    slots: Int32Array.from(workers, (worker) => slotsOf(worker, input)),
    domain: numbered(
      workers.map(({ id, failureDomain }) => (failureDomain === '' ? `worker ${id}` : `domain ${failureDomain}`)),
    ),
    numerics: numbered(workers.map(({ numericsId }) => numericsId)),
    usPerRow,
    usPerMessage: measured(
      workers.map((worker) => worker.usPerMessage),
      0,
    ),
    speed: usPerRow.map((us) => 1 / us),
    batchTokens: Math.max(1, input.batchTokens),
    rows: rowsOf(input),
    samples: Array.from({ length: input.numLayers }, (_, layer) => thinned(input.samples?.[layer] ?? null, input.topK)),
  };
}

/** Experts that fit into a worker's memory; more than there are is no use. */
export function slotsOf(worker: PlanWorker, { expertBytes, numLayers, numExperts }: PlanInput): number {
  if (!(expertBytes > 0) || !(worker.memoryBytes > 0)) return 0;
  return Math.min(Math.floor(worker.memoryBytes / expertBytes), numLayers * numExperts);
}

/** Values above zero as they are, the others as the mean of those, or `otherwise` if there are none. */
function measured(values: readonly number[], otherwise: number): Float64Array {
  const known = values.filter((value) => value > 0 && Number.isFinite(value));
  const mean = known.length === 0 ? otherwise : known.reduce((sum, value) => sum + value, 0) / known.length;
  return Float64Array.from(values, (value) => (value > 0 && Number.isFinite(value) ? value : mean));
}

function numbered(names: readonly string[]): Int32Array {
  const numbers = new Map([...new Set(names)].sort().map((name, number) => [name, number]));
  return Int32Array.from(names, (name) => numbers.get(name) as number);
}

/** Rows of each expert in a step of `batchTokens`: its share of the layer's load; a layer without load is even. */
function rowsOf({ numLayers, numExperts, loads, batchTokens, topK }: PlanInput): Float64Array {
  const rows = new Float64Array(numLayers * numExperts);
  for (let layer = 0; layer < numLayers; layer++) {
    const begin = layer * numExperts;
    let total = 0;
    for (let key = begin; key < begin + numExperts; key++) total += loads[key] as number;
    for (let key = begin; key < begin + numExperts; key++) {
      const share = total > 0 ? (loads[key] as number) / total : 1 / numExperts;
      rows[key] = Math.max(1, batchTokens) * topK * share;
    }
  }
  return rows;
}

/** Whether a worker has the files of an expert. */
export function hasFiles(problem: Problem, worker: number, layer: number, expert: number): boolean {
  const can = problem.workers[worker]?.can ?? null;
  return can === null || can(layer, expert);
}

/** Every token, or every second, third, … */
function thinned(samples: Uint16Array | null, topK: number): Uint16Array | null {
  const count = samples === null ? 0 : Math.floor(samples.length / topK);
  if (samples === null || count === 0) return null;
  const every = Math.ceil(count / MOST_TOKENS);
  if (every === 1) return samples.subarray(0, count * topK);
  const kept = new Uint16Array(Math.ceil(count / every) * topK);
  for (let to = 0; to < kept.length; to += topK) kept.set(samples.subarray(to * every, to * every + topK), to);
  return kept;
}
