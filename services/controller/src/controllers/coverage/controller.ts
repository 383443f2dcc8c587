import type { Emit } from '../../events.ts';
import type { WorkerInfo } from '../../store/worker-store.ts';

/** How many workers hold each expert of each layer. */
function* copiesOf(workers: readonly WorkerInfo[]): Generator<number> {
  const { numLayers, numExperts } = workers[0] ?? { numLayers: 0, numExperts: 0 };
  for (let layer = 0; layer < numLayers; layer++) {
    const copies = new Uint32Array(numExperts);
    for (const worker of workers) for (const expert of worker.holdings.get(layer) ?? []) copies[expert]! += 1;
    yield* copies;
  }
}

/** Share of (layer, expert) pairs that at least one worker holds, 0 to 1. */
export function coverageOf(workers: readonly WorkerInfo[]): number {
  const copies = [...copiesOf(workers)];
  return copies.length === 0 ? 0 : copies.filter((count) => count > 0).length / copies.length;
}

/** Workers that hold the expert with the fewest holders. */
export function leastCopiesOf(workers: readonly WorkerInfo[]): number {
  let least = Number.POSITIVE_INFINITY;
  for (const count of copiesOf(workers)) least = Math.min(least, count);
  return Number.isFinite(least) ? least : 0;
}

/** Tells when experts have lost their last holder, and when all have one again. */
export class CoverageController {
  readonly #emit: Emit;
  #whole = false;

  constructor(emit: Emit) {
    this.#emit = emit;
  }

  /** The coverage now. */
  reconcile(workers: readonly WorkerInfo[]): number {
    const coverage = coverageOf(workers);
    const whole = coverage === 1;
    if (this.#whole && !whole) {
      const missing = ((1 - coverage) * 100).toFixed(1);
      this.#emit('experts_lost', `${missing} % of the experts have no live holder`, { coverage });
    }
    if (!this.#whole && whole) this.#emit('experts_recovered', 'every expert has a live holder', { coverage });
    this.#whole = whole;
    return coverage;
  }
}
