/** Steps that writing one grammar may take, each well under a microsecond: what a request asks for must not stop the others. */
const MAX_STEPS = 4_000_000;

/** A grammar takes more steps than one may; the caller says where it stood. */
export class EffortError extends Error {}

/**
 * What is left of the steps that one grammar may take. Alternatives multiply: an expression of a hundred characters may
 * have more states than there is time to write them.
 */
export class Effort {
  #left = MAX_STEPS;

  /** Takes steps away. Throws EffortError when there are not so many left. */
  spend(steps: number): void {
    this.#left -= steps;
    if (this.#left < 0)
      throw new EffortError('has too many alternatives or repetitions to be compiled; make it smaller');
  }
}
