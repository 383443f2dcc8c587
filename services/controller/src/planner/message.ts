import type { PlanInput, PlanResult, PlanWorker } from '../placement/types.ts';

/** A planner's input as it goes to another thread: what are functions there are tables here, 1 for true. */
export interface PlanMessage extends Omit<PlanInput, 'workers' | 'held'> {
  workers: (Omit<PlanWorker, 'can'> & { can: Uint8Array | null; held: Uint8Array })[];
}

/** What comes back: the plan, or why there is none. */
export type PlanAnswer = { result: PlanResult } | { error: string };

export function messageOf(input: PlanInput): PlanMessage {
  const { workers, held, ...rest } = input;
  const table = (value: (layer: number, expert: number) => boolean): Uint8Array => {
    const { numLayers, numExperts } = input;
    const bits = new Uint8Array(numLayers * numExperts);
    for (let key = 0; key < bits.length; key++)
      if (value(Math.floor(key / numExperts), key % numExperts)) bits[key] = 1;
    return bits;
  };
  return {
    ...rest,
    workers: workers.map(({ can, ...worker }) => ({
      ...worker,
      can: can === null ? null : table(can),
      held: table((layer, expert) => held(worker.id, layer, expert)),
    })),
  };
}

export function inputOf({ workers, ...rest }: PlanMessage): PlanInput {
  const { numExperts } = rest;
  const holdings = new Map(workers.map(({ id, held }) => [id, held]));
  return {
    ...rest,
    workers: workers.map((worker) => {
      const { can } = worker;
      return { ...worker, can: can === null ? null : (layer, expert) => can[layer * numExperts + expert] === 1 };
    }),
    held: (worker, layer, expert) => holdings.get(worker)?.[layer * numExperts + expert] === 1,
  };
}
