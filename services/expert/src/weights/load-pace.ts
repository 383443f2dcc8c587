import type { Clock } from '@guildhall/common';

export interface LoadPaceOptions {
  clock: Clock;
  /** Time since a forward waited or ran, milliseconds; 0 while one does. */
  quietMs: () => number;
  /** Bytes a second while the worker serves; 0 for no limit. */
  bytesPerSecond: number;
}

/** Forwards longer ago than this are no traffic. */
const SERVING_MS = 500;
/** Share of the time that loading takes while the worker serves. */
const SHARE = 0.25;
/** For so long the next expert waits for a moment without forwards. */
const PATIENCE_MS = 50;
const LOOK_MS = 2;
/** Longest pause after one expert. */
const LONGEST_REST_MS = 2000;

/**
 * Keeps loading below dispatch: while forwards come, an expert is loaded for at most a quarter of the time and no faster
 * than the rate, and begins when none is running, if there is such a moment. Urgent loads wait for nothing.
 */
export class LoadPace {
  readonly #o: LoadPaceOptions;
  #restUntilMs = 0;
  #beganMs = 0;
  #bytes = 0;

  constructor(options: LoadPaceOptions) {
    this.#o = options;
  }

  /** Resolves when the next expert may be loaded. Errors: `cancelled`. */
  async begin(urgent: boolean, signal: AbortSignal): Promise<void> {
    const { clock, quietMs } = this.#o;
    while (!urgent && this.#serving && clock.monotonicMs() < this.#restUntilMs) {
      await clock.sleep(Math.min(this.#restUntilMs - clock.monotonicMs(), SERVING_MS), signal);
    }
    const endMs = clock.monotonicMs() + PATIENCE_MS;
    while (!urgent && quietMs() === 0 && clock.monotonicMs() < endMs) await clock.sleep(LOOK_MS, signal);
    this.#beganMs = clock.monotonicMs();
    this.#bytes = 0;
  }

  /** Resolves when more bytes may come of what is being loaded. Errors: `cancelled`. */
  async part(bytes: number, urgent: boolean, signal: AbortSignal): Promise<void> {
    const { clock, bytesPerSecond } = this.#o;
    this.#bytes += bytes;
    if (urgent || bytesPerSecond === 0 || !this.#serving) return;
    const aheadMs = (this.#bytes / bytesPerSecond) * 1000 - (clock.monotonicMs() - this.#beganMs);
    if (aheadMs >= 1) await clock.sleep(aheadMs, signal);
  }

  /** An expert of so many bytes was loaded: the next one comes after a rest. */
  done(bytes: number): void {
    const { clock, bytesPerSecond } = this.#o;
    const nowMs = clock.monotonicMs();
    const tookMs = nowMs - this.#beganMs;
    const byRate = bytesPerSecond === 0 ? 0 : (bytes / bytesPerSecond) * 1000 - tookMs;
    const byShare = Math.min(tookMs * (1 / SHARE - 1), LONGEST_REST_MS);
    this.#restUntilMs = nowMs + Math.max(byRate, byShare);
  }

  get #serving(): boolean {
    return this.#o.quietMs() < SERVING_MS;
  }
}
