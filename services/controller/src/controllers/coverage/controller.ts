import type { Emit } from '../../events.ts';
import type { WorkerInfo } from '../../store/worker-store.ts';

/** Share of (layer, expert) pairs that at least one worker holds, 0 to 1. */
export function coverageOf(workers: readonly WorkerInfo[]): number {
  const { numLayers, numExperts } = workers[0] ?? { numLayers: 0, numExperts: 0 };
  if (numLayers * numExperts === 0) return 0;
  let covered = 0;
  for (let layer = 0; layer < numLayers; layer++) {
    const held = new Set<number>();
    for (const worker of workers) for (const expert of worker.holdings.get(layer) ?? []) held.add(expert);
    covered += held.size;
  }
  return covered / (numLayers * numExperts);
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
