import { AliasTable, Random } from '../kernel/random.ts';

export interface GateOptions {
  numLayers: number;
  numExperts: number;
  topK: number;
  /** Exponent of the experts' popularity: the r-th of a layer is chosen r^-skew as often as the first. 0 for even. */
  skew: number;
  /** Share of a token's choices that come from the experts of its stream's topic. */
  affinity: number;
  /** Topics, and the experts of each in a layer. */
  topics: number;
  topicExperts: number;
  seed: number;
}

/** Draws that may fail to be new before any expert is taken. */
const MAX_DRAWS = 200;

/**
 * A gate that is not a network: top-k sets by Zipf's law, where experts of one topic go together. Popularity and
 * topics differ from layer to layer.
 */
export class SyntheticGate {
  readonly numTopics: number;
  readonly #o: GateOptions;
  readonly #popular: AliasTable[] = [];
  readonly #ofTopic: Int32Array[][] = [];
  readonly #withinTopic: AliasTable;
  readonly #stamp: Int32Array;
  #stamped = 0;
  #drift: (Int32Array | null)[];

  constructor(options: GateOptions) {
    this.#o = options;
    this.numTopics = Math.max(1, options.topics);
    const { numLayers, numExperts, skew, topicExperts, seed } = options;
    const random = new Random(seed, 'gate');
    for (let layer = 0; layer < numLayers; layer++) {
      this.#popular.push(new AliasTable(zipf(numExperts, skew, random.permutation(numExperts))));
      const ofTopic = Array.from({ length: this.numTopics }, () =>
        random.permutation(numExperts).subarray(0, Math.min(topicExperts, numExperts)),
      );
      this.#ofTopic.push(ofTopic);
    }
    this.#withinTopic = new AliasTable(zipf(Math.min(topicExperts, numExperts), skew, null));
    this.#stamp = new Int32Array(numExperts);
    this.#drift = Array.from({ length: numLayers }, () => null);
  }

  /** Draws `topK` different experts of a layer into `into` from `at` on. */
  draw(random: Random, layer: number, topic: number, into: Int32Array, at: number): void {
    const { topK, affinity, numExperts } = this.#o;
    const popular = this.#popular[layer] as AliasTable;
    const experts = (this.#ofTopic[layer] as Int32Array[])[topic % this.numTopics] as Int32Array;
    const drift = this.#drift[layer] ?? null;
    this.#stamped += 1;
    for (let k = 0, tries = 0; k < topK; tries++) {
      const any = tries >= MAX_DRAWS;
      const topical = !any && affinity > 0 && random.next() < affinity;
      let expert = any ? random.below(numExperts) : 0;
      if (topical) expert = experts[this.#withinTopic.draw(random)] as number;
      else if (!any) expert = popular.draw(random);
      if (drift !== null) expert = drift[expert] as number;
      if (this.#stamp[expert] === this.#stamped) continue;
      this.#stamp[expert] = this.#stamped;
      into[at + k] = expert;
      k += 1;
    }
  }

  /** What was popular is no longer, and something else is, in every layer. */
  shift(random: Random): void {
    this.#drift = this.#drift.map(() => random.permutation(this.#o.numExperts));
  }
}

function zipf(count: number, skew: number, order: Int32Array | null): Float64Array {
  const weights = new Float64Array(count);
  for (let rank = 0; rank < count; rank++) weights[order?.[rank] ?? rank] = (rank + 1) ** -skew;
  return weights;
}
