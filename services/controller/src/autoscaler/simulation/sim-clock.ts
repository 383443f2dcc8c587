import type { Clock, Timer } from '@guildhall/common';

/** Time that only moves when it is told to, and runs no timers: the simulation calls what is due. */
export class SimClock implements Clock {
  #ms = 1_800_000_000_000;
  readonly #startMs = this.#ms;

  nowMs(): number {
    return this.#ms;
  }

  monotonicMs(): number {
    return this.#ms;
  }

  /** Since the beginning, ms. */
  get elapsedMs(): number {
    return this.#ms - this.#startMs;
  }

  advance(ms: number): void {
    this.#ms += ms;
  }

  sleep(): Promise<void> {
    return new Promise(() => {});
  }

  // Nothing falls due by itself.
  readonly setTimer = (): Timer => ({ cancel: () => {} });
  readonly setInterval = (): Timer => ({ cancel: () => {} });
}
