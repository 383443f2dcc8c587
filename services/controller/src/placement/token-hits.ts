import type { Problem } from './problem.ts';
import { samplesOf } from './workers-per-token.ts';

/**
 * Expected distinct workers of a token in one layer, kept up to date while experts move. An expert is on a worker with
 * a share, the chance that a token which chose the expert sends it there.
 */
export interface TokenHits {
  /** Workers per token. */
  readonly total: number;
  /** Share of the tokens that choose the expert. */
  chance(expert: number): number;
  /** Share of the tokens that choose the expert and are on the worker anyway, for other experts of theirs. */
  shared(expert: number, worker: number): number;
  /** Sets the share of an expert that is on a worker; 0 takes it off. */
  set(expert: number, worker: number, share: number): void;
}

/** Hits of a layer without experts, from its samples where there are some. */
export function tokenHits(problem: Problem, layer: number): TokenHits {
  const samples = samplesOf(problem, layer);
  return samples === null ? new IndependentHits(problem, layer) : new SampledHits(problem, samples);
}

/** Product of factors of which some are zero: what is left without one of them can be told. */
class Misses {
  readonly product: Float64Array;
  readonly zeros: Uint16Array;

  constructor(count: number) {
    this.product = new Float64Array(count).fill(1);
    this.zeros = new Uint16Array(count);
  }

  at(index: number): number {
    return (this.zeros[index] as number) > 0 ? 0 : (this.product[index] as number);
  }

  /** The product without one factor 1 - share. */
  without(index: number, share: number): number {
    if (share === 0) return this.at(index);
    if (share === 1) return (this.zeros[index] as number) > 1 ? 0 : (this.product[index] as number);
    return (this.zeros[index] as number) > 0 ? 0 : (this.product[index] as number) / (1 - share);
  }

  replace(index: number, from: number, to: number): void {
    if (from === 1) this.zeros[index] = (this.zeros[index] as number) - 1;
    else this.product[index] = (this.product[index] as number) / (1 - from);
    if (to === 1) this.zeros[index] = (this.zeros[index] as number) + 1;
    else this.product[index] = (this.product[index] as number) * (1 - to);
  }
}

/** Experts that are chosen independently of one another, each with its own chance. */
class IndependentHits implements TokenHits {
  total = 0;
  readonly #chances: Float64Array;
  readonly #numWorkers: number;
  readonly #shares: Float64Array;
  readonly #misses: Misses;

  constructor({ rows, batchTokens, numExperts, workers }: Problem, layer: number) {
    this.#chances = rows
      .subarray(layer * numExperts, (layer + 1) * numExperts)
      .map((value) => Math.min(1, value / batchTokens));
    this.#numWorkers = workers.length;
    this.#shares = new Float64Array(numExperts * workers.length);
    this.#misses = new Misses(workers.length);
  }

  chance(expert: number): number {
    return this.#chances[expert] as number;
  }

  shared(expert: number, worker: number): number {
    const chance = this.chance(expert);
    const own = chance * (this.#shares[expert * this.#numWorkers + worker] as number);
    return chance * (1 - this.#misses.without(worker, own));
  }

  set(expert: number, worker: number, share: number): void {
    const at = expert * this.#numWorkers + worker;
    const chance = this.chance(expert);
    const before = this.#misses.at(worker);
    this.#misses.replace(worker, chance * (this.#shares[at] as number), chance * share);
    this.#shares[at] = share;
    this.total += before - this.#misses.at(worker);
  }
}

/** Experts as sampled tokens chose them. */
class SampledHits implements TokenHits {
  total = 0;
  readonly #samples: Uint16Array;
  readonly #topK: number;
  readonly #count: number;
  readonly #numWorkers: number;
  /** Sampled tokens with an expert are tokens[starts[expert]] up to the next start. */
  readonly #starts: Int32Array;
  readonly #tokens: Int32Array;
  /** Of each expert on each worker. */
  readonly #shares: Float64Array;
  /** Sum over the tokens of an expert of the chance that its other experts are on the worker. */
  readonly #shared: Float64Array;
  /** Of each token and worker. */
  readonly #misses: Misses;

  constructor({ input, numExperts, workers }: Problem, samples: Uint16Array) {
    this.#samples = samples;
    this.#topK = input.topK;
    this.#count = Math.floor(samples.length / input.topK);
    this.#numWorkers = workers.length;
    this.#starts = new Int32Array(numExperts + 1);
    const used = samples.subarray(0, this.#count * input.topK);
    for (const expert of used) this.#starts[expert + 1] = (this.#starts[expert + 1] as number) + 1;
    for (let expert = 0; expert < numExperts; expert++) {
      this.#starts[expert + 1] = (this.#starts[expert + 1] as number) + (this.#starts[expert] as number);
    }
    this.#tokens = new Int32Array(used.length);
    const next = this.#starts.slice();
    for (const [at, expert] of used.entries()) {
      const place = next[expert] as number;
      this.#tokens[place] = Math.floor(at / input.topK);
      next[expert] = place + 1;
    }
    this.#shares = new Float64Array(numExperts * workers.length);
    this.#shared = new Float64Array(numExperts * workers.length);
    this.#misses = new Misses(this.#count * workers.length);
  }

  chance(expert: number): number {
    return ((this.#starts[expert + 1] as number) - (this.#starts[expert] as number)) / this.#count;
  }

  shared(expert: number, worker: number): number {
    return (this.#shared[expert * this.#numWorkers + worker] as number) / this.#count;
  }

  set(expert: number, worker: number, share: number): void {
    const at = expert * this.#numWorkers + worker;
    const was = this.#shares[at] as number;
    if (was === share) return;
    const end = this.#starts[expert + 1] as number;
    for (let i = this.#starts[expert] as number; i < end; i++) {
      this.#setToken(this.#tokens[i] as number, expert, worker, was, share);
    }
    this.#shares[at] = share;
  }

  #setToken(token: number, expert: number, worker: number, was: number, share: number): void {
    const at = token * this.#numWorkers + worker;
    const misses = this.#misses;
    // What the token's other experts share of this worker changes with the factor of this one.
    const others = misses.without(at, was);
    this.total += (others * (share - was)) / this.#count;
    const begin = token * this.#topK;
    for (let i = begin; i < begin + this.#topK; i++) {
      const other = this.#samples[i] as number;
      if (other === expert) continue;
      const key = other * this.#numWorkers + worker;
      const own = this.#shares[key] as number;
      const before = misses.without(at, own);
      // Without the other expert's own factor: all but the two, times what this one's factor was and is.
      const both = own === 0 ? others : withoutBoth(misses, at, was, own, before);
      this.#shared[key] = (this.#shared[key] as number) + both * (share - was);
    }
    misses.replace(at, was, share);
  }
}

/** The product without the factors of two experts, one of which (`own`) has been left out of `before`. */
function withoutBoth(misses: Misses, at: number, was: number, own: number, before: number): number {
  if (was === 0) return before;
  if (was < 1) return before / (1 - was);
  // The factor of `was` is zero: of the zeros it is one, and perhaps the own factor another.
  const zeros = (misses.zeros[at] as number) - 1 - (own === 1 ? 1 : 0);
  if (zeros > 0) return 0;
  const product = misses.product[at] as number;
  return own === 1 ? product : product / (1 - own);
}
