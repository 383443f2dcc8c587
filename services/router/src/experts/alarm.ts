import type { Clock, Timer } from '@guildhall/common';

/** Delay of a timer that is no longer its own imprecision. */
const OVERSLEPT_MS = 5;

/** One timer for everything that a forward pass has to look after: moved only when it would ring too late. */
export class Alarm {
  readonly #clock: Clock;
  readonly #ring: () => number;
  #timer: Timer | null = null;
  #atMs = Infinity;

  /** `ring` returns the monotonic time at which to ring again; Infinity for never. */
  constructor(clock: Clock, ring: () => number) {
    this.#clock = clock;
    this.#ring = ring;
  }

  /** Rings at `atMs` or before. */
  by(atMs: number): void {
    if (atMs >= this.#atMs) return;
    this.#timer?.cancel();
    this.#atMs = atMs;
    const waitMs = Math.max(1, Math.ceil(atMs - this.#clock.monotonicMs()));
    this.#timer = this.#clock.setTimer(waitMs, () => this.#onTime(atMs));
  }

  #onTime(atMs: number): void {
    if (this.#clock.monotonicMs() - atMs <= OVERSLEPT_MS) return this.#now();
    // This process was held up, and what it waits for may be here: it is read before anybody is called late.
    this.#timer = this.#clock.setTimer(1, () => this.#now());
  }

  #now(): void {
    this.#atMs = Infinity;
    this.by(this.#ring());
  }

  close(): void {
    this.#timer?.cancel();
    this.#atMs = -Infinity;
  }
}
