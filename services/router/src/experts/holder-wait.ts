import type { Clock, Timer } from '@guildhall/common';
import type { Retry } from './job.ts';

export interface HolderWaitOptions {
  clock: Clock;
  /** Calls back when workers came or went, until the returned function is called. */
  onViewChange: (listener: () => void) => () => void;
  /** Monotonic milliseconds at which waiting ends. */
  giveUpAtMs: number;
  /** Monotonic milliseconds from which this process computes what nobody holds; Infinity for never. */
  fallbackAtMs: () => number;
  /** Tries rows again. */
  retry: (items: Retry[]) => void;
  fallback: (items: Retry[]) => void;
  giveUp: () => void;
}

/** Rows of a layer that wait for a worker that holds their experts. */
export class HolderWait {
  readonly #o: HolderWaitOptions;
  #items: Retry[] = [];
  #stopWatching: (() => void) | null = null;
  #end: Timer | null = null;
  #fallback: Timer | null = null;

  constructor(options: HolderWaitOptions) {
    this.#o = options;
  }

  get items(): readonly Retry[] {
    return this.#items;
  }

  add(item: Retry): void {
    const { clock, giveUpAtMs, giveUp, onViewChange } = this.#o;
    this.#items.push(item);
    const now = clock.monotonicMs();
    this.#end ??= clock.setTimer(Math.max(0, giveUpAtMs - now), giveUp);
    this.#stopWatching ??= onViewChange(() => this.#o.retry(this.#take(() => true)));
    this.#watchFallback(now);
  }

  close(): void {
    this.#end?.cancel();
    this.#fallback?.cancel();
    this.#stopWatching?.();
    this.#end = null;
    this.#fallback = null;
    this.#stopWatching = null;
  }

  #watchFallback(now: number): void {
    const { clock, fallbackAtMs, fallback } = this.#o;
    const atMs = fallbackAtMs();
    if (atMs === Infinity || this.#fallback !== null) return;
    this.#fallback = clock.setTimer(Math.max(0, atMs - now), () => {
      this.#fallback = null;
      fallback(this.#take(({ history }) => !history.noFallback));
    });
  }

  /** Takes items out; what is not to be had is added again. */
  #take(wanted: (item: Retry) => boolean): Retry[] {
    const items = this.#items.filter(wanted);
    this.#items = this.#items.filter((item) => !wanted(item));
    if (this.#items.length === 0) this.close();
    return items;
  }
}
