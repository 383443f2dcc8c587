/** Random numbers that are the same for the same seed, everywhere. */
export class Random {
  #a: number;
  #b: number;
  #c: number;
  #d = 1;
  #spare: number | null = null;

  /** Numbers for one purpose: other labels give others, so that one more draw here changes nothing there. */
  constructor(seed: number, label: string) {
    let hash = 0x811c9dc5 ^ seed;
    for (const char of label) hash = Math.imul(hash ^ char.charCodeAt(0), 0x01000193);
    this.#a = hash >>> 0;
    this.#b = Math.imul(hash, 0x9e3779b1) >>> 0;
    this.#c = (seed ^ 0xdeadbeef) >>> 0;
    for (let i = 0; i < 12; i++) this.#bits();
  }

  /** From 0 up to 1, without it. */
  next(): number {
    return this.#bits() / 2 ** 32;
  }

  /** A whole number below `end`. */
  below(end: number): number {
    return Math.floor(this.next() * end);
  }

  exponential(mean: number): number {
    return -mean * Math.log(1 - this.next());
  }

  normal(): number {
    if (this.#spare !== null) {
      const spare = this.#spare;
      this.#spare = null;
      return spare;
    }
    const radius = Math.sqrt(-2 * Math.log(1 - this.next()));
    const angle = 2 * Math.PI * this.next();
    this.#spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }

  /** Log-normal with this mean; `sigma` is the deviation of its logarithm, 0 for always the mean. */
  logNormal(mean: number, sigma: number): number {
    return sigma === 0 ? mean : mean * Math.exp(sigma * this.normal() - (sigma * sigma) / 2);
  }

  /** A random order of 0 … count-1. */
  permutation(count: number): Int32Array {
    const order = new Int32Array(count);
    for (let i = 0; i < count; i++) {
      const j = this.below(i + 1);
      order[i] = order[j] as number;
      order[j] = i;
    }
    return order;
  }

  // sfc32, from the public domain (PractRand).
  #bits(): number {
    const t = (((this.#a + this.#b) | 0) + this.#d) | 0;
    this.#d = (this.#d + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + t;
    return t >>> 0;
  }
}

/** Draws indexes with given weights in constant time (Walker's alias method). */
export class AliasTable {
  readonly #share: Float64Array;
  readonly #other: Int32Array;

  constructor(weights: ArrayLike<number>) {
    const count = weights.length;
    const sum = Array.from(weights).reduce((total, weight) => total + weight, 0);
    this.#share = Float64Array.from(weights, (weight) => (weight * count) / sum);
    this.#other = new Int32Array(count);
    const small: number[] = [];
    const large: number[] = [];
    for (const [i, share] of this.#share.entries()) (share < 1 ? small : large).push(i);
    while (small.length > 0 && large.length > 0) {
      const less = small.pop() as number;
      const more = large.at(-1) as number;
      this.#other[less] = more;
      this.#share[more] = (this.#share[more] as number) + (this.#share[less] as number) - 1;
      if ((this.#share[more] as number) < 1) small.push(large.pop() as number);
    }
    for (const i of [...small, ...large]) this.#share[i] = 1;
  }

  draw(random: Random): number {
    const at = random.next() * this.#share.length;
    const i = Math.floor(at);
    return at - i < (this.#share[i] as number) ? i : (this.#other[i] as number);
  }
}
