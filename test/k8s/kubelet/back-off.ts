import type { Clock } from '@guildhall/common';

const FIRST_MS = 10_000;
const LONGEST_MS = 300_000;
/** A container that ran this long has its back-off forgotten. */
const FORGET_MS = 600_000;

/** How long a container that ended waits before it is started again: not at all, then 10 s, 20 s … 5 min, as a kubelet does. */
export class RestartBackOff {
  readonly #clock: Clock;
  #nextMs = 0;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Wait before the next start. @param startedMs when the container that ended was started, on the clock's monotonic time. */
  waitMs(startedMs: number): number {
    if (this.#clock.monotonicMs() - startedMs >= FORGET_MS) this.#nextMs = 0;
    const wait = this.#nextMs;
    this.#nextMs = wait === 0 ? FIRST_MS : Math.min(wait * 2, LONGEST_MS);
    return wait;
  }
}
