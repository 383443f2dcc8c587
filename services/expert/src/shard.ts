import { errorMessage, type Logger, type Metrics } from '@guildhall/common';
import type { ModelConfig, WeightReader } from '@guildhall/model/weights';
import type { ExpertShard as NativeShard } from '@guildhall/native';

/** Experts by layer. */
export type ExpertSet = Map<number, ReadonlySet<number>>;

/** Experts of one layer, ascending. */
export interface LayerExperts {
  layer: number;
  experts: number[];
}

export interface ShardOptions {
  native: NativeShard;
  weights: WeightReader;
  model: ModelConfig;
  logger: Logger;
  metrics: Metrics;
  /** Called after the held set changed. */
  onChange: () => void;
}

/** The experts that this process holds: which ones, and how they come and go. */
export class Shard {
  readonly #options: ShardOptions;

  constructor(options: ShardOptions) {
    this.#options = options;
  }

  has(layer: number, expert: number): boolean {
    return this.#options.native.has(layer, expert);
  }

  /** What is held now; layers without experts are left out. */
  held(): LayerExperts[] {
    const { native, model } = this.#options;
    const layers: LayerExperts[] = [];
    for (let layer = 0; layer < model.numLayers; layer++) {
      const experts = [...native.held(layer)];
      if (experts.length > 0) layers.push({ layer, experts });
    }
    return layers;
  }

  get heldCount(): number {
    return this.held().reduce((sum, layer) => sum + layer.experts.length, 0);
  }

  /**
   * Reads and packs one expert on a background thread. False when that failed: the checkpoint is damaged or memory
   * ran out; the log says which.
   */
  async load(layer: number, expert: number): Promise<boolean> {
    const { native, weights, logger } = this.#options;
    try {
      const { gate, up, down } = await weights.expert(layer, expert);
      await native.load(layer, expert, gate, up, down);
    } catch (err) {
      logger.error({ layer, expert, reason: errorMessage(err) }, 'an expert could not be loaded');
      this.#options.metrics.count('guildhall_expert_loads_total', { outcome: 'failed' });
      return false;
    }
    this.#changed('loaded');
    return true;
  }

  /** Keeps on the disk what loading had to quantise. */
  async loaded(): Promise<void> {
    const { weights, logger } = this.#options;
    await weights.flush();
    const { hits, misses, written } = weights.counts;
    if (hits + misses > 0) logger.info({ fromDisk: hits, quantised: misses, written }, 'quantised weights');
  }

  /** Drops every held expert that `keep` does not name; returns how many. */
  dropAllBut(keep: ExpertSet): number {
    let dropped = 0;
    for (const { layer, experts } of this.held()) {
      for (const expert of experts) {
        if (keep.get(layer)?.has(expert) === true) continue;
        if (this.#options.native.unload(layer, expert)) dropped += 1;
      }
    }
    if (dropped > 0) this.#changed('dropped', dropped);
    return dropped;
  }

  #changed(outcome: string, count = 1): void {
    const { metrics, onChange } = this.#options;
    metrics.count('guildhall_expert_loads_total', { outcome }, count);
    onChange();
  }
}
