import { type Clock, fail } from '@guildhall/common';

const WINDOW_MS = 60_000;
/** Callers that are remembered; with more the oldest is forgotten. */
const MAX_CALLERS = 4096;

interface Attempts {
  sinceMs: number;
  requests: number;
  failures: number;
}

export interface AttemptLimits {
  /** Requests of one address within a minute. */
  requests: number;
  /** Refused credentials of one address within a minute. */
  failures: number;
}

/** Bounds what one address may try. Memory is bounded too. */
export class AttemptLimit {
  readonly #limits: AttemptLimits;
  readonly #clock: Clock;
  readonly #callers = new Map<string, Attempts>();

  constructor(limits: AttemptLimits, clock: Clock) {
    this.#limits = limits;
    this.#clock = clock;
  }

  /** Counts a request. Throws `rate_limited` with `details.retryAfterMs`. */
  take(caller: string): void {
    const attempts = this.#of(caller);
    attempts.requests += 1;
    if (attempts.requests <= this.#limits.requests && attempts.failures < this.#limits.failures) return;
    const retryAfterMs = attempts.sinceMs + WINDOW_MS - this.#clock.monotonicMs();
    throw fail('rate_limited', `too many attempts from ${caller}; wait ${Math.ceil(retryAfterMs / 1000)} s`, {
      details: { retryAfterMs },
    });
  }

  /** Counts credentials that were refused. */
  failed(caller: string): void {
    this.#of(caller).failures += 1;
  }

  #of(caller: string): Attempts {
    const nowMs = this.#clock.monotonicMs();
    const known = this.#callers.get(caller);
    if (known !== undefined && nowMs - known.sinceMs < WINDOW_MS) return known;
    const fresh = { sinceMs: nowMs, requests: 0, failures: 0 };
    this.#callers.delete(caller);
    this.#callers.set(caller, fresh);
    const [oldest] = this.#callers.keys();
    if (this.#callers.size > MAX_CALLERS && oldest !== undefined) this.#callers.delete(oldest);
    return fresh;
  }
}
