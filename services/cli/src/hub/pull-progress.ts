import type { Clock } from '@guildhall/common';
import { formatBytes } from '../ui/bytes.ts';
import type { Progress } from '../ui/progress.ts';

const RATE_WINDOW_MS = 5000;
const REDRAW_MS = 100;
/** Where there is no terminal a line comes this often. */
const LINE_MS = 10_000;

/** Bytes that came and are to come, shown as a bar with rate and remaining time. */
export class PullProgress {
  readonly #progress: Progress;
  readonly #clock: Clock;
  #total = 0;
  #done = 0;
  #drawnAt = -Infinity;
  #lineAt: number;
  #recent: { at: number; done: number }[] = [];

  constructor(progress: Progress, clock: Clock) {
    this.#progress = progress;
    this.#clock = clock;
    this.#lineAt = clock.monotonicMs();
  }

  /** More work: bytes that will be fetched or read. */
  expect(bytes: number): void {
    this.#total += bytes;
  }

  /** Bytes that came; negative for those that turned out useless. */
  add(bytes: number): void {
    this.#done += bytes;
    const now = this.#clock.monotonicMs();
    if (now - this.#drawnAt < REDRAW_MS) return;
    this.#drawnAt = now;
    this.#recent.push({ at: now, done: this.#done });
    while (this.#recent.length > 2 && now - (this.#recent[0]?.at ?? now) > RATE_WINDOW_MS) this.#recent.shift();
    if (!this.#progress.redraws && now - this.#lineAt < LINE_MS) return;
    this.#lineAt = now;
    const fraction = this.#total === 0 ? 0 : this.#done / this.#total;
    this.#progress.update(this.#label(), this.#progress.redraws ? fraction : null);
  }

  /** A line that stays: a file is here, or an attempt failed. */
  say(message: string): void {
    this.#progress.done(message);
  }

  #label(): string {
    const amount = `${formatBytes(this.#done)} of ${formatBytes(this.#total)}`;
    const first = this.#recent[0];
    const last = this.#recent.at(-1);
    if (first === undefined || last === undefined || last.at <= first.at) return amount;
    const perSecond = ((last.done - first.done) / (last.at - first.at)) * 1000;
    if (perSecond <= 0) return amount;
    const seconds = Math.ceil((this.#total - this.#done) / perSecond);
    return `${amount}, ${formatBytes(perSecond)}/s, ${duration(seconds)} left`;
  }
}

function duration(seconds: number): string {
  if (seconds < 90) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${(minutes / 60).toFixed(1)} h`;
}
