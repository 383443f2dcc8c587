import type { TensorSource, WeightFormat } from '@guildhall/native';
import type { Checkpoint } from './checkpoint.ts';
import type { ModelLayout } from './layout.ts';
import { cacheLocation } from './cache/location.ts';
import { WeightsCache } from './cache/weights-cache.ts';
import { denseLayerTensors } from './expected.ts';
import type { ExpertBytes } from './expert-bytes.ts';
import { expertSources, type ExpertSources } from './experts.ts';
import type { MapFile } from './safetensors/file.ts';

/** Weight formats that are not simply read or rounded. */
export type QuantisedFormat = 'fp8' | 'q8' | 'q4';

/** Quantises all (gathered) rows of a weight; loading the result gives the bits of loading the source. */
export type Quantise = (
  source: TensorSource,
  format: QuantisedFormat,
) => Promise<Pick<TensorSource, 'dtype' | 'data' | 'scale'>>;

/**
 * Version of what `quantise` makes. It goes up with every change to the numbers, so that caches of older ones are
 * not used.
 */
export const QUANTISER_VERSION = 1;

export interface WeightReaderOptions {
  checkpoint: Checkpoint;
  format: WeightFormat;
  /** Where quantised weights are kept: `auto` beside the checkpoint, `off`, or a folder. */
  cache: string;
  quantise: Quantise;
  mapFile: MapFile | null;
  env: Record<string, string | undefined>;
  /** Told what was discarded, or why nothing is kept. */
  onWarning: (message: string) => void;
}

/**
 * Weights of a checkpoint in the form in which blocks take them. Under a quantised format the matrices come from a cache
 * on the disk, and go there when they were not in it. Blocks compute the same bits with and without.
 */
export class WeightReader {
  readonly checkpoint: Checkpoint;
  readonly #format: WeightFormat;
  readonly #quantise: Quantise | null;
  readonly #cache: WeightsCache | null;
  /** Matrices that were prepared and not taken yet. */
  readonly #prepared = new Map<string, TensorSource>();

  private constructor(
    checkpoint: Checkpoint,
    format: WeightFormat,
    quantise: Quantise | null,
    cache: WeightsCache | null,
  ) {
    this.checkpoint = checkpoint;
    this.#format = format;
    this.#quantise = quantise;
    this.#cache = cache;
  }

  /** A reader without a cache: blocks get the tensors as they are stored. */
  static plain(checkpoint: Checkpoint): WeightReader {
    return new WeightReader(checkpoint, 'f32', null, null);
  }

  /** A reader with a cache, where the format is one that is worth it and a cache is wanted. */
  static open(options: WeightReaderOptions): WeightReader {
    const { checkpoint, format, mapFile, onWarning } = options;
    if (format === 'f32' || format === 'bf16') return WeightReader.plain(checkpoint);
    const location = cacheLocation(options.cache, checkpoint.dir, options.env);
    if (location === null) {
      if (options.cache !== 'off') onWarning('quantised weights are not kept: there is no folder to write to');
      return WeightReader.plain(checkpoint);
    }
    const origin = { fingerprint: checkpoint.fingerprint, format, version: QUANTISER_VERSION };
    const cache = WeightsCache.open({ location, origin, mapFile, onWarning });
    return cache === null
      ? WeightReader.plain(checkpoint)
      : new WeightReader(checkpoint, format, options.quantise, cache);
  }

  get layout(): ModelLayout {
    return this.checkpoint.layout;
  }

  /** Weights found on the disk, made here, and written; zeros without a cache. */
  get counts(): { hits: number; misses: number; written: number } {
    return this.#cache?.counts ?? { hits: 0, misses: 0, written: 0 };
  }

  /** A tensor as it is stored: for norms and whatever else keeps its precision. */
  source(name: string, rows: Int32Array | null = null): TensorSource {
    return this.checkpoint.source(name, rows);
  }

  /** A matrix in the form in which it is packed fastest: quantised if `prepare` found or made it so. */
  matrix(name: string): TensorSource {
    const prepared = this.#prepared.get(name);
    this.#prepared.delete(name);
    return prepared ?? this.checkpoint.source(name);
  }

  /** Gets the quantised matrices of a layer's dense part ready for `matrix`; without a cache it does nothing. */
  async prepareLayer(index: number): Promise<void> {
    const { config, layout } = this.checkpoint;
    const layer = layout.layers[index];
    if (layer === undefined || this.#cache === null) return;
    for (const { name, scalable } of denseLayerTensors(config, layer, index)) {
      // The gate of the mixture stays exact: it chooses, and a wrong choice is no small error.
      if (scalable && !name.endsWith('.mlp.gate.weight')) await this.#prepare(name);
    }
  }

  /** As prepareLayer, for the output projection. */
  async prepareHead(): Promise<void> {
    if (this.#cache !== null) await this.#prepare(this.checkpoint.layout.head);
  }

  async #prepare(name: string): Promise<void> {
    this.#prepared.set(name, await this.#quantised(name, () => this.checkpoint.source(name)));
  }

  /**
   * The three matrices of a routed expert.
   * @param read where the expert's bytes come from when they are needed, by default the mapped files.
   * @throws invalid_value, checkpoint_partial, native errors, and what `read` throws.
   */
  async expert(
    layer: number,
    expert: number,
    read: (() => Promise<ExpertBytes>) | null = null,
  ): Promise<ExpertSources> {
    const { checkpoint } = this;
    let reading: Promise<ExpertBytes> | null = null;
    const sources = async (): Promise<ExpertSources> => {
      if (read === null) return expertSources(checkpoint, checkpoint.config, layer, expert);
      const bytes = await (reading ??= read());
      return expertSources(checkpoint, checkpoint.config, layer, expert, (...range) => bytes.bytes(...range));
    };
    if (this.#cache === null) return sources();
    const prefix = `${checkpoint.layout.layers[layer]?.prefix}mlp.experts.${expert}.`;
    const [gate, up, down] = await Promise.all([
      this.#quantised(`${prefix}gate`, async () => (await sources()).gate),
      this.#quantised(`${prefix}up`, async () => (await sources()).up),
      this.#quantised(`${prefix}down`, async () => (await sources()).down),
    ]);
    return { gate, up, down };
  }

  /** Writes what was made and is not on the disk yet; to be called when loading is done. */
  async flush(): Promise<void> {
    await this.#cache?.flush();
  }

  async #quantised(key: string, source: () => TensorSource | Promise<TensorSource>): Promise<TensorSource> {
    // FP8 checkpoints are used as they are.
    const asStored = this.#format === 'fp8' ? await source() : null;
    if (asStored?.dtype === 'F8_E4M3') return asStored;
    const found = this.#cache?.get(key) ?? null;
    if (found !== null) return found;
    const stored = asStored ?? (await source());
    if (this.#quantise === null) return stored;
    const made = await this.#quantise(stored, this.#format as QuantisedFormat);
    const rows = stored.rows?.length ?? stored.shape[0];
    const weight: TensorSource = { ...made, shape: [rows, stored.shape[1]], rows: null };
    await this.#cache?.put(key, weight);
    return weight;
  }
}
