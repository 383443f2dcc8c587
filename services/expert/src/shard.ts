import { type Clock, fail, type Logger, type Metrics, toGuildhallError } from '@guildhall/common';
import type { ExpertBytes, ModelConfig, WeightReader } from '@guildhall/model/weights';
import type { ExpertShard as NativeShard } from '@guildhall/native';
import type { LoadProblems } from './load-problems.ts';
import type { LoadPace } from './weights/load-pace.ts';
import type { LoadSource, WeightSources } from './weights/weight-sources.ts';

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
  sources: Pick<WeightSources, 'read' | 'keep'>;
  pace: LoadPace;
  problems: Pick<LoadProblems, 'set'>;
  model: ModelConfig;
  clock: Clock;
  logger: Logger;
  metrics: Metrics;
  /** Bytes of expert weights that may be placed here. */
  capacityBytes: number;
  /** Called after the held set changed. */
  onChange: () => void;
}

/** How loading one expert ended. */
export type LoadResult = 'loaded' | 'failed' | 'no_memory' | 'cancelled';

interface Loading {
  urgent: boolean;
  signal: AbortSignal;
}

/** Room beyond the capacity for experts that come before others go. */
const OVERLAP = 1.25;

/** The experts that this process holds: which ones, and how they come and go. */
export class Shard {
  readonly #options: ShardOptions;
  #capacityBytes: number;

  constructor(options: ShardOptions) {
    this.#options = options;
    this.#capacityBytes = options.capacityBytes;
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

  /** Bytes that the held experts take. */
  get heldBytes(): number {
    return this.heldCount * this.#options.native.expertBytes;
  }

  /**
   * Gets the weights of one expert and packs them on a background thread. Failures are in the log, the metrics and the
   * worker's problems.
   * @param loading urgent: nobody else serves it, so that it need not give way to forwards.
   */
  async load(layer: number, expert: number, loading: Loading): Promise<LoadResult> {
    const { pace, metrics, clock } = this.#options;
    try {
      await pace.begin(loading.urgent, loading.signal);
      this.#checkRoom();
      const beganMs = clock.monotonicMs();
      const { bytes, source } = await this.#loadNow(layer, expert, loading);
      pace.done(bytes);
      metrics.observe('guildhall_expert_load_seconds', (clock.monotonicMs() - beganMs) / 1000, { source });
      metrics.count('guildhall_expert_load_bytes_total', { source }, bytes);
    } catch (err) {
      return this.#failed(layer, expert, loading, err);
    }
    return 'loaded';
  }

  /** All that was given is held: keeps on the disk what loading had to quantise. */
  async loaded(): Promise<void> {
    const { weights, logger, problems } = this.#options;
    problems.set('expert', null);
    problems.set('memory', null);
    await weights.flush();
    const { hits, misses, written } = weights.counts;
    if (hits + misses > 0) logger.info({ fromDisk: hits, quantised: misses, written }, 'quantised weights');
  }

  /** Drops every held expert that `keep` does not name; returns how many. */
  dropAllBut(keep: ExpertSet): number {
    return this.#drop((layer, expert) => keep.get(layer)?.has(expert) !== true, Infinity);
  }

  /** Bytes that may be placed here: less than configured once memory has run out. */
  get capacityBytes(): number {
    return this.#capacityBytes;
  }

  /** Memory has run out and nothing can go: no more than what is held is to be placed here until the next start. */
  lowerCapacity(): void {
    if (this.heldBytes >= this.#capacityBytes) return;
    this.#capacityBytes = this.heldBytes;
    this.#options.logger.warn({ capacityBytes: this.#capacityBytes }, 'out of memory: the capacity is lowered');
    this.#options.onChange();
  }

  /** Drops one held expert that `keep` does not name and others hold; false where there is none. */
  makeRoom(keep: ExpertSet, covered: (layer: number, expert: number) => boolean): boolean {
    return this.#drop((layer, expert) => keep.get(layer)?.has(expert) !== true && covered(layer, expert), 1) > 0;
  }

  #drop(test: (layer: number, expert: number) => boolean, most: number): number {
    let dropped = 0;
    for (const { layer, experts } of this.held()) {
      for (const expert of experts) {
        if (dropped >= most || !test(layer, expert)) continue;
        if (this.#options.native.unload(layer, expert)) dropped += 1;
      }
    }
    if (dropped > 0) this.#changed('dropped', dropped);
    return dropped;
  }

  async #loadNow(layer: number, expert: number, loading: Loading): Promise<{ bytes: number; source: Source }> {
    const { native, weights, sources } = this.#options;
    let read: { bytes: ExpertBytes; source: LoadSource } | null = null;
    const { gate, up, down } = await weights.expert(layer, expert, async () => {
      read = await sources.read(layer, expert, loading);
      return read.bytes;
    });
    loading.signal.throwIfAborted();
    await native.load(layer, expert, gate, up, down);
    this.#changed('loaded');
    const from = read as { bytes: ExpertBytes; source: LoadSource } | null;
    if (from === null) return { bytes: native.expertBytes, source: 'cache' };
    if (from.source === 'peer') await sources.keep(from.bytes, (...address) => this.has(...address));
    return { bytes: from.bytes.data.length, source: from.source };
  }

  #checkRoom(): void {
    const { native, capacityBytes } = this.#options;
    // What is to be dropped is held until nobody needs it, so that an epoch may need more than its own.
    const limit = Math.max(capacityBytes * OVERLAP, capacityBytes + native.expertBytes);
    if (this.heldBytes + native.expertBytes <= limit) return;
    throw fail('out_of_memory', `${this.heldCount} experts are held, and ${capacityBytes} bytes may be used`);
  }

  #failed(layer: number, expert: number, loading: Loading, err: unknown): LoadResult {
    if (loading.signal.aborted) return 'cancelled';
    const { logger, metrics, problems } = this.#options;
    const memory = isOutOfMemory(err);
    const error = toGuildhallError(err);
    const known = memory ? fail('out_of_memory', error.message, { cause: err }) : error;
    logger.error({ layer, expert, code: known.code, reason: known.message }, 'an expert could not be loaded');
    metrics.count('guildhall_expert_loads_total', { outcome: 'failed' });
    metrics.count('guildhall_expert_load_failures_total', { reason: known.code });
    problems.set(memory ? 'memory' : 'expert', known, { layer, expert });
    return memory ? 'no_memory' : 'failed';
  }

  #changed(outcome: string, count = 1): void {
    const { metrics, onChange } = this.#options;
    metrics.count('guildhall_expert_loads_total', { outcome }, count);
    onChange();
  }
}

type Source = LoadSource | 'cache';

/** What the budget, native code and the engine's buffers throw when memory has run out. */
function isOutOfMemory(err: unknown): boolean {
  if (toGuildhallError(err).code === 'out_of_memory') return true;
  return err instanceof Error && /^out of memory$|allocation failed/i.test(err.message);
}
