import { OrderedSet } from './ordered-set.ts';

/** How many sequences have which priority, and which is the highest. */
export class PriorityCensus {
  readonly #counts = new Map<number, number>();
  readonly #distinct = new OrderedSet<number>((a, b) => b - a);

  /** -Infinity when there is nobody. */
  get highest(): number {
    return this.#distinct.first() ?? -Infinity;
  }

  /** Counts one more; true when that changed the highest. */
  add(priority: number): boolean {
    const before = this.highest;
    this.#counts.set(priority, (this.#counts.get(priority) ?? 0) + 1);
    this.#distinct.add(priority);
    return this.highest !== before;
  }

  /** Counts one less; true when that changed the highest. */
  delete(priority: number): boolean {
    const before = this.highest;
    const left = (this.#counts.get(priority) ?? 0) - 1;
    if (left > 0) {
      this.#counts.set(priority, left);
      return false;
    }
    this.#counts.delete(priority);
    this.#distinct.delete(priority);
    return this.highest !== before;
  }
}
