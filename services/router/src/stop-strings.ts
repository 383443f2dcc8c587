/**
 * Looks for stop strings in text that comes in pieces. What is found does not depend on where the pieces were cut:
 * the match that ends first wins, and of those that end together the longest.
 */
export class StopStrings {
  readonly #stops: readonly string[];
  /** Longest part of a stop string that may lie in text seen before. */
  readonly #keep: number;
  #tail = '';

  /** `stops` are not empty strings; order does not matter. */
  constructor(stops: readonly string[]) {
    this.#stops = stops;
    this.#keep = Math.max(0, ...stops.map((stop) => stop.length - 1));
  }

  get isEmpty(): boolean {
    return this.#stops.length === 0;
  }

  /**
   * Takes the next piece of text and returns the stop string that ends in it, or null. While not `active` nothing
   * is found, but a match may begin in such text and end in a later piece.
   */
  push(text: string, active = true): string | null {
    if (this.isEmpty || text === '') return null;
    const seen = this.#tail.length;
    const buffer = this.#tail + text;
    this.#tail = this.#keep === 0 ? '' : buffer.slice(-this.#keep);
    return active ? this.#firstEnding(buffer, seen) : null;
  }

  #firstEnding(buffer: string, seen: number): string | null {
    let best: string | null = null;
    let bestEnd = Infinity;
    for (const stop of this.#stops) {
      // A match that lies in seen text alone was found, or passed over, before.
      const start = buffer.indexOf(stop, Math.max(0, seen - stop.length + 1));
      if (start < 0) continue;
      const end = start + stop.length;
      if (end < bestEnd || (end === bestEnd && stop.length > (best?.length ?? 0))) [best, bestEnd] = [stop, end];
    }
    return best;
  }
}
