import type { control } from '@guildhall/proto';
import type { ExpertShape } from './holdings.ts';

/** Tokens routed to each expert since the last report. */
export class ExpertLoads {
  readonly #shape: ExpertShape;
  readonly #counts: Float64Array;

  constructor(shape: ExpertShape) {
    this.#shape = shape;
    this.#counts = new Float64Array(shape.numLayers * shape.numExperts);
  }

  /** Counts the first `count` expert numbers for a layer. */
  add(layer: number, topkIds: Int32Array, count: number): void {
    const base = layer * this.#shape.numExperts;
    for (let i = 0; i < count; i++) {
      const key = base + (topkIds[i] as number);
      this.#counts[key] = (this.#counts[key] as number) + 1;
    }
  }

  /** The counts as a report, and starts from zero. Null when nothing was counted. */
  take(reporter: string, epoch: number, intervalMs: number): control.LoadReport | null {
    const { numLayers, numExperts } = this.#shape;
    const layers: control.LayerLoad[] = [];
    for (let layer = 0; layer < numLayers; layer++) {
      const tokens = this.#counts.subarray(layer * numExperts, (layer + 1) * numExperts);
      if (tokens.some((count) => count > 0)) layers.push({ layer, tokens: Array.from(tokens, (count) => BigInt(count)) });
    }
    this.#counts.fill(0);
    if (layers.length === 0) return null;
    return { reporter, epoch: BigInt(epoch), layers, intervalMs: BigInt(Math.round(intervalMs)) };
  }
}
