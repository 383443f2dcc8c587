import type { Problem } from './problem.ts';

/** Tokens' worth of belief that experts are chosen independently: few samples of an expert prove little. */
const PRIOR_TOKENS = 8;
/** Certainty is no estimate, and what is multiplied by zero cannot be divided again. */
const MOST_CHANCE = 0.98;
/** Experts whose workers another expert may want to be on. */
const MOST_PARTNERS = 16;

/**
 * Which experts of a layer tokens choose together, and what that means for a placement: how often an expert is the only
 * one that brings a token to a worker. Given one expert of a token its others count as independent of each other, which
 * takes a table of pairs instead of all sampled tokens.
 */
export class CoActivation {
  /** Share of the tokens that choose each expert. */
  readonly #chances: Float64Array;
  /** Chance that a token with one expert has another one, [other * numExperts + expert]. */
  readonly #pairs: Float32Array;
  /** Chance that a token with an expert is on a worker for none of its others, [worker * numExperts + expert]. */
  readonly #alone: Float64Array;
  /** Share of an expert that is on a worker, laid out like `#alone`. */
  readonly #shares: Float64Array;
  /** Partners of each expert, as many for all. */
  readonly #partners: Uint16Array;
  readonly #numExperts: number;

  constructor(problem: Problem, layer: number) {
    const { numExperts, workers, rows, batchTokens } = problem;
    this.#numExperts = numExperts;
    this.#chances = rows
      .subarray(layer * numExperts, (layer + 1) * numExperts)
      .map((value) => Math.min(1, value / batchTokens));
    this.#pairs = pairChances(this.#chances, problem.samples[layer] ?? null, problem.input.topK);
    this.#partners = mostLikely(this.#pairs, numExperts, Math.min(MOST_PARTNERS, numExperts - 1));
    this.#alone = new Float64Array(workers.length * numExperts).fill(1);
    this.#shares = new Float64Array(workers.length * numExperts);
  }

  /** The experts that tokens with this one choose most often. */
  partners(expert: number): Uint16Array {
    const each = this.#partners.length / this.#numExperts;
    return this.#partners.subarray(expert * each, (expert + 1) * each);
  }

  /** Share of the tokens that choose the expert and are on the worker for no other expert of theirs. */
  alone(expert: number, worker: number): number {
    return (this.#chances[expert] as number) * (this.#alone[worker * this.#numExperts + expert] as number);
  }

  /** The same when one of the others leaves the worker. */
  aloneWithout(expert: number, worker: number, other: number): number {
    const share = this.#shares[worker * this.#numExperts + other] as number;
    return this.alone(expert, worker) / (1 - share * (this.#pairs[other * this.#numExperts + expert] as number));
  }

  /** Sets the share of an expert that is on a worker; 0 takes it off. */
  set(expert: number, worker: number, share: number): void {
    const begin = worker * this.#numExperts;
    const was = this.#shares[begin + expert] as number;
    if (was === share) return;
    this.#shares[begin + expert] = share;
    const pairs = expert * this.#numExperts;
    for (let other = 0; other < this.#numExperts; other++) {
      const pair = this.#pairs[pairs + other] as number;
      this.#alone[begin + other] = ((this.#alone[begin + other] as number) * (1 - share * pair)) / (1 - was * pair);
    }
  }
}

/** Chances of pairs from samples, drawn towards independence; an expert is no company of its own. */
function pairChances(chances: Float64Array, samples: Uint16Array | null, topK: number): Float32Array {
  const numExperts = chances.length;
  const pairs = new Float32Array(numExperts * numExperts);
  const tokens = new Float64Array(numExperts);
  const count = samples === null ? 0 : Math.floor(samples.length / topK);
  for (let token = 0; token < count; token++) {
    const begin = token * topK;
    for (let i = begin; i < begin + topK; i++) {
      const expert = samples?.[i] as number;
      tokens[expert] = (tokens[expert] as number) + 1;
      for (let j = begin; j < begin + topK; j++) {
        const key = (samples?.[j] as number) * numExperts + expert;
        pairs[key] = (pairs[key] as number) + 1;
      }
    }
  }
  for (let other = 0; other < numExperts; other++) {
    const prior = PRIOR_TOKENS * (chances[other] as number);
    for (let expert = 0; expert < numExperts; expert++) {
      const key = other * numExperts + expert;
      const chance = ((pairs[key] as number) + prior) / ((tokens[expert] as number) + PRIOR_TOKENS);
      pairs[key] = other === expert ? 0 : Math.min(MOST_CHANCE, chance);
    }
  }
  return pairs;
}

/** For each expert the others with the largest chances, the largest first. */
function mostLikely(pairs: Float32Array, numExperts: number, count: number): Uint16Array {
  const found = new Uint16Array(numExperts * count);
  const chances = new Float32Array(numExperts * count).fill(-1);
  for (let other = 0; other < numExperts; other++) {
    for (let expert = 0; expert < numExperts; expert++) {
      const chance = pairs[other * numExperts + expert] as number;
      let at = (expert + 1) * count - 1;
      if (other === expert || count === 0 || chance <= (chances[at] as number)) continue;
      for (const begin = expert * count; at > begin && (chances[at - 1] as number) < chance; at--) {
        chances[at] = chances[at - 1] as number;
        found[at] = found[at - 1] as number;
      }
      chances[at] = chance;
      found[at] = other;
    }
  }
  return found;
}
