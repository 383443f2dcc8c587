import { setTimeout as delay } from 'node:timers/promises';
import { fail } from './errors.ts';

/** A pending timer. Cancelling twice, or after it fired, does nothing. */
export interface Timer {
  cancel(): void;
}

/** Time as services see it; the only way to it, so that tests can move it. */
export interface Clock {
  /** Wall clock, milliseconds since the Unix epoch. */
  nowMs(): number;
  /** Never goes backwards; for durations. */
  monotonicMs(): number;
  /** Resolves after `ms`; rejects with `cancelled` when the signal aborts. Keeps the process alive. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
  /** Calls `fn` once after `ms`. Does not keep the process alive. */
  setTimer(ms: number, fn: () => void): Timer;
  /** Calls `fn` every `ms`. Does not keep the process alive. */
  setInterval(ms: number, fn: () => void): Timer;
}

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicMs: () => performance.now(),
  async sleep(ms, signal) {
    try {
      await delay(ms, undefined, signal === undefined ? {} : { signal });
    } catch (err) {
      throw fail('cancelled', 'sleep was cancelled', { cause: err });
    }
  },
  setTimer(ms, fn) {
    const handle = setTimeout(fn, ms).unref();
    return { cancel: () => clearTimeout(handle) };
  },
  setInterval(ms, fn) {
    const handle = setInterval(fn, ms).unref();
    return { cancel: () => clearInterval(handle) };
  },
};

interface Entry {
  atMs: number;
  order: number;
  everyMs: number | null;
  fn: () => void;
}

/** Time that moves only by `advance`. Timers fire in order of their time, then of their creation. */
export class FakeClock implements Clock {
  #nowMs: number;
  #order = 0;
  readonly #entries = new Set<Entry>();

  constructor(startMs = 1_700_000_000_000) {
    this.#nowMs = startMs;
  }

  nowMs(): number {
    return this.#nowMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      const cancelled = (): void => {
        timer.cancel();
        reject(fail('cancelled', 'sleep was cancelled'));
      };
      const timer = this.#add(ms, null, () => {
        signal?.removeEventListener('abort', cancelled);
        resolve();
      });
      if (signal?.aborted) cancelled();
      else signal?.addEventListener('abort', cancelled, { once: true });
    });
  }

  setTimer(ms: number, fn: () => void): Timer {
    return this.#add(ms, null, fn);
  }

  setInterval(ms: number, fn: () => void): Timer {
    return this.#add(ms, Math.max(1, ms), fn);
  }

  /** Pending timers; a test that ends with some has leaked them. */
  get pending(): number {
    return this.#entries.size;
  }

  /** Moves time on by `ms`, firing what falls due; promise callbacks run between two timers. */
  async advance(ms: number): Promise<void> {
    const endMs = this.#nowMs + ms;
    for (;;) {
      await new Promise<void>((resolve) => setImmediate(resolve));
      const next = this.#next(endMs);
      if (next === null) break;
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      if (next.everyMs === null) this.#entries.delete(next);
      else next.atMs += next.everyMs;
      next.fn();
    }
    this.#nowMs = endMs;
  }

  #add(ms: number, everyMs: number | null, fn: () => void): Timer {
    const entry: Entry = { atMs: this.#nowMs + Math.max(0, ms), order: this.#order++, everyMs, fn };
    this.#entries.add(entry);
    return { cancel: () => void this.#entries.delete(entry) };
  }

  #next(endMs: number): Entry | null {
    let best: Entry | null = null;
    for (const entry of this.#entries) {
      if (entry.atMs > endMs) continue;
      if (best === null || entry.atMs < best.atMs || (entry.atMs === best.atMs && entry.order < best.order))
        best = entry;
    }
    return best;
  }
}
