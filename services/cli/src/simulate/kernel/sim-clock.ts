import { setImmediate as nextTurn } from 'node:timers/promises';
import { type Clock, fail, type Timer } from '@guildhall/common';
import TinyQueue from 'tinyqueue';

interface Event {
  atMs: number;
  order: number;
  fn: (() => void) | null;
  /** Code of the services waits for it: promises may settle in it. */
  settles: boolean;
}

/**
 * Virtual time. Events are called in order of their time, then of their making; between two of them nothing passes.
 * Promises are let run only after events that may have settled some, since that takes far longer than an event.
 */
export class SimClock implements Clock {
  #nowMs = 0;
  #order = 0;
  #unsettled = true;
  /** Events called so far. */
  numEvents = 0;
  readonly #events = new TinyQueue<Event>([], (a, b) => a.atMs - b.atMs || a.order - b.order);

  nowMs(): number {
    return this.#nowMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  /** Calls `fn` at a time; one that is past counts as now. For the simulator's own parts: `fn` settles no promise. */
  at(atMs: number, fn: () => void): void {
    this.#push(atMs, fn, false);
  }

  /** Like `at`, but may be cancelled. */
  timerAt(atMs: number, fn: () => void): Timer {
    return cancelling(this.#push(atMs, fn, false));
  }

  setTimer(ms: number, fn: () => void): Timer {
    return cancelling(this.#push(this.#nowMs + ms, fn, true));
  }

  readonly setInterval = (ms: number, fn: () => void): Timer => {
    const everyMs = Math.max(0.001, ms);
    let event: Event;
    const next = (): void => {
      event = this.#push(this.#nowMs + everyMs, tick, true);
    };
    const tick = (): void => {
      next();
      fn();
    };
    next();
    return { cancel: () => (event.fn = null) };
  };

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const cancelled = (): void => {
        timer.cancel();
        this.settle();
        reject(fail('cancelled', 'sleep was cancelled'));
      };
      const timer = this.setTimer(ms, () => {
        signal?.removeEventListener('abort', cancelled);
        resolve();
      });
      if (signal?.aborted === true) cancelled();
      else signal?.addEventListener('abort', cancelled, { once: true });
    });
  }

  /** A promise was settled in the event that runs: those who wait for it go on before the next event. */
  settle(): void {
    this.#unsettled = true;
  }

  /** Lets time pass until `endMs`, or until `done` says so between two events. */
  async runUntil(endMs: number, done: () => boolean = () => false): Promise<void> {
    for (;;) {
      if (this.#unsettled) {
        this.#unsettled = false;
        await nextTurn();
        continue;
      }
      const event = this.#events.peek();
      if (done()) return;
      if (event === undefined || event.atMs > endMs) break;
      this.#events.pop();
      if (event.fn === null) continue;
      this.#nowMs = event.atMs;
      this.numEvents += 1;
      this.#unsettled = event.settles;
      event.fn();
    }
    this.#nowMs = Math.max(this.#nowMs, endMs);
  }

  #push(atMs: number, fn: () => void, settles: boolean): Event {
    const event = { atMs: Math.max(this.#nowMs, atMs), order: this.#order++, fn, settles };
    this.#events.push(event);
    return event;
  }
}

function cancelling(event: Event): Timer {
  return { cancel: () => (event.fn = null) };
}
