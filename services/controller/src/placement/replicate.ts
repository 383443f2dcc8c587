/** What bounds the replicas that `replicate` hands out. */
export interface ReplicaBounds {
  /** Replicas to hand out. */
  budget: number;
  /** Copies that one expert may have. */
  most: number;
  /** An expert whose load per copy is not above this one gets no more. */
  enough: number;
  /** Is told of each replica in order. */
  onEach?: (expert: number) => void;
}

/**
 * Replicates by load: each next replica goes to the expert with the largest load per copy, the first of equals.
 * `copies` holds what each expert has and is brought up to date. This is the replication step of DeepSeek's expert
 * parallelism load balancer, with a bound.
 */
export function replicate(loads: ArrayLike<number>, copies: Int32Array, bounds: ReplicaBounds): void {
  const { budget, most, enough, onEach } = bounds;
  const each = (expert: number): number => (loads[expert] as number) / (copies[expert] as number);
  const wants = (expert: number): boolean => (copies[expert] as number) < most && each(expert) > enough;
  const before = (a: number, b: number): boolean => each(a) > each(b) || (each(a) === each(b) && a < b);
  const heap = Array.from({ length: loads.length }, (_, expert) => expert).filter(wants);
  for (let at = Math.floor(heap.length / 2) - 1; at >= 0; at--) sink(heap, at, before);
  for (let left = budget; left > 0 && heap.length > 0; left--) {
    const expert = heap[0] as number;
    copies[expert] = (copies[expert] as number) + 1;
    onEach?.(expert);
    if (!wants(expert)) {
      const last = heap.pop() as number;
      if (heap.length === 0) break;
      if (last !== expert) heap[0] = last;
    }
    sink(heap, 0, before);
  }
}

/** Restores the order of a binary heap whose entry at `at` may be too high up. */
function sink(heap: number[], at: number, before: (a: number, b: number) => boolean): void {
  const moving = heap[at] as number;
  for (;;) {
    let child = 2 * at + 1;
    if (child >= heap.length) break;
    if (child + 1 < heap.length && before(heap[child + 1] as number, heap[child] as number)) child += 1;
    if (!before(heap[child] as number, moving)) break;
    heap[at] = heap[child] as number;
    at = child;
  }
  heap[at] = moving;
}
