/** A counted number of places, given in the order in which they are asked for. */
export class Slots {
  #free: number;
  readonly #signal: AbortSignal;
  readonly #waiting: (() => void)[] = [];

  constructor(count: number, signal: AbortSignal) {
    this.#free = count;
    this.#signal = signal;
    signal.addEventListener('abort', () => this.#waiting.splice(0).forEach((wake) => wake()), { once: true });
  }

  /** @returns false when the signal came first. */
  async take(): Promise<boolean> {
    while (this.#free === 0) {
      if (this.#signal.aborted) return false;
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    this.#free--;
    return true;
  }

  give(): void {
    this.#free++;
    this.#waiting.shift()?.();
  }
}
