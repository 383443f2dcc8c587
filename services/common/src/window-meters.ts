import type { Clock } from './clock.ts';

/** Parts that a window is kept in. */
const PARTS = 20;
/** A meter says something once it has watched for this share of its window. */
const LEAST_WATCHED = 0.5;

/** Sums over a window that moves with the clock, exact to a twentieth of it. */
export class WindowSum {
  readonly #clock: Clock;
  readonly #partMs: number;
  readonly #parts = new Float64Array(PARTS);
  readonly #sinceMs: number;
  /** Number of the newest part. */
  #part: number;

  constructor(clock: Clock, windowMs: number) {
    this.#clock = clock;
    this.#partMs = windowMs / PARTS;
    this.#sinceMs = clock.monotonicMs();
    this.#part = Math.floor(this.#sinceMs / this.#partMs);
  }

  add(value: number): void {
    const at = this.#move() % PARTS;
    this.#parts[at] = (this.#parts[at] ?? 0) + value;
  }

  /** Of the window, or of the time since the beginning while that is shorter. */
  get perMs(): number {
    this.#move();
    const inPart = this.#clock.monotonicMs() - this.#part * this.#partMs;
    const watchedMs = Math.min(this.#watchedMs, (PARTS - 1) * this.#partMs + inPart);
    return watchedMs <= 0 ? 0 : this.#parts.reduce((sum, part) => sum + part, 0) / watchedMs;
  }

  /** Whether enough was watched to say something. */
  get known(): boolean {
    return this.#watchedMs >= LEAST_WATCHED * PARTS * this.#partMs;
  }

  get #watchedMs(): number {
    return this.#clock.monotonicMs() - this.#sinceMs;
  }

  /** Empties the parts that time has passed over; returns the number of the newest. */
  #move(): number {
    const now = Math.floor(this.#clock.monotonicMs() / this.#partMs);
    for (let part = Math.max(this.#part, now - PARTS) + 1; part <= now; part += 1) this.#parts[part % PARTS] = 0;
    this.#part = Math.max(this.#part, now);
    return this.#part;
  }
}

/** Share of the last ten seconds in which a process worked, whatever it did side by side. */
export class BusyMeter {
  readonly #clock: Clock;
  readonly #sum: WindowSum;
  #running = 0;
  /** Up to when time was counted. */
  #countedMs: number;

  constructor(clock: Clock, windowMs = 10_000) {
    this.#clock = clock;
    this.#sum = new WindowSum(clock, windowMs);
    this.#countedMs = clock.monotonicMs();
  }

  begin(): void {
    if (this.#running === 0) this.#countedMs = this.#clock.monotonicMs();
    this.#running += 1;
  }

  end(): void {
    this.#count();
    this.#running = Math.max(0, this.#running - 1);
  }

  /** 0 to 1; null before enough was watched. */
  get share(): number | null {
    if (this.#running > 0) this.#count();
    return this.#sum.known ? Math.min(1, this.#sum.perMs) : null;
  }

  #count(): void {
    const nowMs = this.#clock.monotonicMs();
    if (this.#running > 0) this.#sum.add(Math.max(0, nowMs - this.#countedMs));
    this.#countedMs = nowMs;
  }
}

/** Values kept of a window at most. */
const MOST_VALUES = 4096;

/** A percentile of the values of a window that moves with the clock. */
export class WindowPercentile {
  readonly #clock: Clock;
  readonly #windowMs: number;
  /** Each stands for `weight` values that came about then. */
  #values: { atMs: number; value: number; weight: number }[] = [];
  /** One of so many values is kept. */
  #stride = 1;
  #skipped = 0;

  constructor(clock: Clock, windowMs: number) {
    this.#clock = clock;
    this.#windowMs = windowMs;
  }

  add(value: number): void {
    this.#skipped += 1;
    if (this.#skipped < this.#stride) return;
    this.#skipped = 0;
    this.#values.push({ atMs: this.#clock.monotonicMs(), value, weight: this.#stride });
    if (this.#values.length <= MOST_VALUES) return;
    this.#values = this.#values.filter((_, at) => at % 2 === 1).map((one) => ({ ...one, weight: one.weight * 2 }));
    this.#stride *= 2;
  }

  /** Null where the window is empty. `share` of 0.95 is the 95th percentile. */
  at(share: number): number | null {
    const oldestMs = this.#clock.monotonicMs() - this.#windowMs;
    this.#values = this.#values.filter(({ atMs }) => atMs >= oldestMs);
    if (this.#values.length < MOST_VALUES / 4) this.#stride = Math.max(1, this.#stride / 2);
    const sorted = this.#values.toSorted((a, b) => a.value - b.value);
    let left = share * sorted.reduce((sum, { weight }) => sum + weight, 0);
    for (const { value, weight } of sorted) {
      left -= weight;
      if (left < 0) return value;
    }
    return sorted.at(-1)?.value ?? null;
  }
}

/** A figure to two digits, so that an entry in Redis does not change with every report. */
export function twoDigits(value: number): number {
  return Number(value.toPrecision(2));
}
