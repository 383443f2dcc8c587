/** How far the distribution of one model is from that of another, over positions of texts. */
export interface Divergence {
  /** Positions compared. */
  positions: number;
  /** Kullback-Leibler divergence KL(base || other) of the next token, mean over positions, in nats. */
  klMean: number;
  /** The value that 99 % of the positions stay below. */
  klP99: number;
  klMax: number;
  /** Share of positions where both rank the same token first. */
  sameTop: number;
}

/** Gathers positions one by one. */
export class DivergenceMeter {
  readonly #values: number[] = [];
  #same = 0;

  /** @param base and other are logits over the vocabulary; -inf marks tokens that cannot come. */
  add(base: Float32Array, other: Float32Array): void {
    this.#values.push(divergence(base, other));
    if (argmax(base) === argmax(other)) this.#same += 1;
  }

  result(): Divergence {
    const sorted = Float64Array.from(this.#values).sort();
    const positions = sorted.length;
    return {
      positions,
      klMean: sorted.reduce((sum, value) => sum + value, 0) / positions,
      klP99: sorted[Math.min(Math.floor(positions * 0.99), positions - 1)] ?? NaN,
      klMax: sorted.at(-1) ?? NaN,
      sameTop: this.#same / positions,
    };
  }
}

/** KL(base || other) = sum of p (log p - log q) over tokens with p > 0, in nats and in double precision. */
export function divergence(base: Float32Array, other: Float32Array): number {
  const baseSum = logSumExp(base);
  const otherSum = logSumExp(other);
  let sum = 0;
  for (let i = 0; i < base.length; i++) {
    const logP = (base[i] as number) - baseSum;
    if (logP === -Infinity) continue;
    sum += Math.exp(logP) * (logP - ((other[i] as number) - otherSum));
  }
  // Rounding may leave a little less than nothing.
  return Math.max(sum, 0);
}

/** First index of the largest value. */
export function argmax(values: Float32Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if ((values[i] as number) > (values[best] as number)) best = i;
  return best;
}

function logSumExp(logits: Float32Array): number {
  const largest = logits[argmax(logits)] as number;
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - largest);
  return largest + Math.log(sum);
}
