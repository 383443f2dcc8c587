import type { Clock, Timer } from '@guildhall/common';

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
    this.#timer = this.#clock.setTimer(Math.max(1, Math.ceil(atMs - this.#clock.monotonicMs())), () => {
      this.#atMs = Infinity;
      this.by(this.#ring());
    });
  }

  close(): void {
    this.#timer?.cancel();
    this.#atMs = -Infinity;
  }
}
