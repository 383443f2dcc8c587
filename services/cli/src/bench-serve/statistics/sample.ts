import { Random } from '../../simulate/kernel/random.ts';

/** A fair sample of what is added, of bounded size (reservoir sampling, algorithm R). */
export class Sample<T> {
  readonly #size: number;
  readonly #random = new Random(1, 'sample');
  readonly #kept: T[] = [];
  #seen = 0;

  constructor(size: number) {
    this.#size = size;
  }

  add(value: T): void {
    this.#seen++;
    if (this.#kept.length < this.#size) this.#kept.push(value);
    else {
      const at = this.#random.below(this.#seen);
      if (at < this.#size) this.#kept[at] = value;
    }
  }

  get values(): readonly T[] {
    return this.#kept;
  }
}
