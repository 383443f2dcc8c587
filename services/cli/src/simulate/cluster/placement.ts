import type { ExpertShape, Assignment as ViewAssignment } from '@guildhall/router/scheduling';

/** Worker indexes of each expert, ascending: holders[layer][expert]; workers by id, sorted. */
export interface Assignment {
  workers: string[];
  holders: number[][][];
}

/** A placement as routers read it. */
export function viewAssignment({ workers, holders }: Assignment, epoch: number, shape: ExpertShape): ViewAssignment {
  const start = new Int32Array(shape.numLayers * shape.numExperts + 1);
  const list: number[] = [];
  for (const [key, held] of holders.flat().entries()) {
    list.push(...held);
    start[key + 1] = list.length;
  }
  return { epoch, ids: workers, start, list: Int32Array.from(list) };
}

/** Every expert on `copies` workers, in turn. */
export function roundRobin(workers: readonly string[], shape: ExpertShape, copies: number): Assignment {
  const sorted = [...workers].sort();
  const each = Math.min(copies, sorted.length);
  let next = 0;
  const holders = Array.from({ length: shape.numLayers }, () =>
    Array.from({ length: shape.numExperts }, () => {
      const held = Array.from({ length: each }, (_, copy) => (next + copy) % sorted.length);
      next = (next + each) % sorted.length;
      return held.sort((a, b) => a - b);
    }),
  );
  return { workers: sorted, holders };
}
