import type { Socket } from 'node:net';
import { type Clock, fail, type GuildhallError } from '@guildhall/common';

/** A drain is over when no request has come for so long. */
const QUIET_MS = 1000;

/** Completions that run now: counts them, refuses too many, and ends them at shutdown. */
export class InFlight {
  readonly #limit: number;
  readonly #clock: Clock;
  readonly #running = new Set<AbortController>();
  #streams = 0;
  /** Connections on which an answer said that another request may follow. */
  readonly #kept = new WeakSet<Socket>();
  #state: 'open' | 'lingering' | 'closing' | 'closed' = 'open';
  #entered = 0;
  #onEmpty: (() => void) | null = null;

  constructor(limit: number, clock: Clock) {
    this.#limit = limit;
    this.#clock = clock;
  }

  get size(): number {
    return this.#running.size;
  }

  /** True once the gateway is to go; it may still take requests for a while. */
  get draining(): boolean {
    return this.#state !== 'open';
  }

  /** An answer on this connection says that another request may follow. */
  keep(connection: Socket): void {
    this.#kept.add(connection);
  }

  /**
   * Takes a place. Throws `rate_limited` when there is none and `not_ready` when the gateway is shutting down: to new connections
   * first, and to those that were promised to be kept only when time is up. A client may have sent its next request on one of
   * those before it could hear that the connection ends, so each is served once more, by an answer that closes it.
   */
  enter(connection: Socket): AbortController {
    if (this.#state === 'closed' || (this.#state === 'closing' && !this.#kept.has(connection))) throw shuttingDown();
    this.#entered += 1;
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
   * Goes on for `lingerMs`; then takes no new connection, waits up to `graceMs` for what runs, and ends the rest with `not_ready`.
   */
  async drain(lingerMs: number, graceMs: number): Promise<void> {
    this.#state = 'lingering';
    if (lingerMs > 0) await this.#clock.sleep(lingerMs);
    this.#state = 'closing';
    const limit = this.#clock.setTimer(graceMs, () => {
      this.#state = 'closed';
      for (const controller of this.#running) controller.abort(shuttingDown());
    });
    for (let before = -1; this.#state === 'closing' && before !== this.#entered;) {
      await this.#empty();
      before = this.#entered;
      // A client that reads the end of an answer sends its next request at once, and that is on its way now.
      if (lingerMs > 0) await this.#clock.sleep(Math.min(lingerMs, QUIET_MS));
    }
    await this.#empty();
    this.#state = 'closed';
    limit.cancel();
  }

  async #empty(): Promise<void> {
    if (this.#running.size === 0) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#onEmpty = resolve;
    await promise;
  }
}

function shuttingDown(): GuildhallError {
  return fail('not_ready', 'this gateway is shutting down');
}
