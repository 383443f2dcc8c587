import type { ExpertShape } from './holdings.ts';

/** Sets of experts kept for each layer. */
export const SETS_PER_LAYER = 64;

/**
 * A uniform sample of the sets of experts that tokens chose, per layer. Between two sampled tokens nothing is done but a
 * comparison for each batch, and nothing is allocated (Li's algorithm L: the number of tokens to pass over is drawn).
 */
export class SetSamples {
  readonly #topK: number;
  /** [layer][set][topK] */
  readonly #sets: Uint16Array;
  /** Tokens seen of each layer, the index of the next one to take, and the state behind that. */
  readonly #seen: Float64Array;
  readonly #next: Float64Array;
  readonly #weight: Float64Array;
  #random: number;

  /** `seed` other than 0 decides which tokens are taken. */
  constructor(shape: ExpertShape & { topK: number }, seed: number) {
    this.#topK = shape.topK;
    this.#sets = new Uint16Array(shape.numLayers * SETS_PER_LAYER * shape.topK);
    this.#seen = new Float64Array(shape.numLayers);
    this.#next = new Float64Array(shape.numLayers);
    this.#weight = new Float64Array(shape.numLayers);
    this.#random = seed >>> 0 || 1;
    this.reset();
  }

  /** Takes what it wants of `numTokens` tokens of a layer, whose sets are topkIds[token*topK..]. */
  add(layer: number, topkIds: Int32Array, numTokens: number): void {
    const begin = this.#seen[layer] as number;
    this.#seen[layer] = begin + numTokens;
    while ((this.#next[layer] as number) < begin + numTokens) this.#take(layer, topkIds, begin);
  }

  /** A copy of the sets of a layer, u16[n][topK] flat. */
  sets(layer: number): Uint16Array {
    const count = Math.min(SETS_PER_LAYER, this.#seen[layer] as number);
    const begin = layer * SETS_PER_LAYER * this.#topK;
    return this.#sets.slice(begin, begin + count * this.#topK);
  }

  /** Begins anew. */
  reset(): void {
    this.#seen.fill(0);
    this.#next.fill(0);
    this.#weight.fill(1);
  }

  #take(layer: number, topkIds: Int32Array, begin: number): void {
    const index = this.#next[layer] as number;
    const slot = index < SETS_PER_LAYER ? index : Math.floor(this.#draw() * SETS_PER_LAYER);
    const from = (index - begin) * this.#topK;
    const to = (layer * SETS_PER_LAYER + slot) * this.#topK;
    for (let i = 0; i < this.#topK; i++) this.#sets[to + i] = topkIds[from + i] as number;
    this.#next[layer] = index + 1;
    if (index + 1 >= SETS_PER_LAYER) this.#skip(layer);
  }

  #skip(layer: number): void {
    const weight = (this.#weight[layer] as number) * Math.exp(Math.log(this.#draw()) / SETS_PER_LAYER);
    this.#weight[layer] = weight;
    this.#next[layer] = (this.#next[layer] as number) + Math.floor(Math.log(this.#draw()) / Math.log1p(-weight));
  }

  /** Xorshift, in (0, 1). */
  #draw(): number {
    let x = this.#random;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#random = x >>> 0;
    return (this.#random - 0.5) / 4_294_967_296;
  }
}
