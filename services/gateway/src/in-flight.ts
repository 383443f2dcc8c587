import { type Clock, fail, type GuildhallError } from '@guildhall/common';

/** Completions that run now: counts them, refuses too many, and ends them at shutdown. */
export class InFlight {
  readonly #limit: number;
  readonly #clock: Clock;
  readonly #running = new Set<AbortController>();
  #streams = 0;
  #draining = false;
  #closed = false;
  #onEmpty: (() => void) | null = null;
  /** Called when nothing new is taken any more. */
  onClosed: () => void = () => {};

  constructor(limit: number, clock: Clock) {
    this.#limit = limit;
    this.#clock = clock;
  }

  get size(): number {
    return this.#running.size;
  }

  /** True once the gateway is to go; it may still take requests for a while. */
  get draining(): boolean {
    return this.#draining;
  }

  /** Takes a place. Throws `rate_limited` when there is none and `not_ready` when the gateway is shutting down. */
  enter(): AbortController {
    if (this.#closed) throw shuttingDown();
    if (this.#running.size >= this.#limit) {
      throw fail('rate_limited', `this gateway runs ${this.#limit} completions at a time; try again in a moment`);
    }
    const controller = new AbortController();
    this.#running.add(controller);
    return controller;
  }

  leave(controller: AbortController): void {
    this.#running.delete(controller);
    if (this.#running.size === 0) this.#onEmpty?.();
  }

  /** Counts an event stream; returns how many there are now. */
  openStream(): number {
    return ++this.#streams;
  }

  closeStream(): number {
    return --this.#streams;
  }

  /**
   * Goes on for `lingerMs`; then takes nothing new, waits up to `graceMs` for what runs, and ends the rest with `not_ready`.
   */
  async drain(lingerMs: number, graceMs: number): Promise<void> {
    this.#draining = true;
    if (lingerMs > 0) await this.#clock.sleep(lingerMs);
    this.#closed = true;
    this.onClosed();
    if (this.#running.size === 0) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#onEmpty = resolve;
    const limit = this.#clock.setTimer(graceMs, () => {
      for (const controller of this.#running) controller.abort(shuttingDown());
    });
    await promise;
    limit.cancel();
  }
}

function shuttingDown(): GuildhallError {
  return fail('not_ready', 'this gateway is shutting down');
}
