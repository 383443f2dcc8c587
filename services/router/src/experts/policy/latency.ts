import type { Clock } from '@guildhall/common';
import type { Lane } from '@guildhall/native';
import { FadingQuantiles } from './quantiles.ts';
import type { LatencyTracker } from './types.ts';

export interface LatencyOptions {
  clock: Pick<Clock, 'monotonicMs'>;
  /** Time without a reply after which a worker counts as lost, milliseconds: no deadline is later. */
  limitMs: Readonly<Record<Lane, number>>;
  /** Least deadline, milliseconds: pauses of a garbage collector and of the scheduler are no fault. */
  leastDeadlineMs?: number;
  /** Least delay of a second call, milliseconds. */
  leastHedgeMs?: number;
}

const LEAST_DEADLINE_MS = 100;
const LEAST_HEDGE_MS = 2;
/** Part of the calls that are answered by the time of a second call. */
const HEDGE_QUANTILE = 0.98;
/** Beside a worker's own measure: so many times what the workers of its lane typically need. */
const HEDGE_TYPICAL_FACTOR = 8;
const DEADLINE_QUANTILE = 0.99;
const DEADLINE_FACTOR = 4;
/** A worker that was hardly measured may take so many times as long as the others: it may be of a slower kind. */
const STRANGER_FACTOR = 4;
/** Calls after which deadlines go by what was measured. */
const ENOUGH = 32;
/** Calls until a line is worth comparing with. */
const FIRST = 8;
/** What each call leaves of the weight of those before it. */
const FADE = 0.99;
/** One call moves the line as if it had taken this many times the predicted time at most. */
const CLIP = 4;
/** Time in which half of what sets a worker apart is forgotten, so that a slow one is tried again. */
const FORGET_HALF_MS = 10_000;
/** Calls between two looks at the quantiles. */
const REFRESH = 16;

/** A line through (rows, ms), and how far calls are from it. */
class Line {
  lastMs = 0;
  numCalls = 0;
  fixedMs = 0;
  rowMs = 0;
  hedgeRatio = 1;
  deadlineRatio = 1;
  typicalRatio = 1;
  readonly #ratios = new FadingQuantiles();
  #weight = 0;
  #rows = 0;
  #ms = 0;
  #rowsRows = 0;
  #rowsMs = 0;

  predict(rows: number): number {
    return this.fixedMs + this.rowMs * rows;
  }

  observe(rows: number, ms: number, nowMs: number): void {
    this.numCalls += 1;
    this.lastMs = nowMs;
    let taken = ms;
    if (this.numCalls > FIRST) {
      const expected = Math.max(this.predict(rows), 1e-3);
      this.#ratios.add(ms / expected);
      taken = Math.min(Math.max(ms, expected / CLIP), expected * CLIP);
      if (this.numCalls % REFRESH === 0 || ms > expected * this.deadlineRatio) this.#refresh();
    }
    this.#fit(rows, taken);
  }

  #fit(rows: number, ms: number): void {
    this.#weight = this.#weight * FADE + 1;
    this.#rows = this.#rows * FADE + rows;
    this.#ms = this.#ms * FADE + ms;
    this.#rowsRows = this.#rowsRows * FADE + rows * rows;
    this.#rowsMs = this.#rowsMs * FADE + rows * ms;
    const meanRows = this.#rows / this.#weight;
    const meanMs = this.#ms / this.#weight;
    const variance = this.#rowsRows / this.#weight - meanRows * meanRows;
    const covariance = this.#rowsMs / this.#weight - meanRows * meanMs;
    // Calls of one size tell nothing about rows: half of their time is put down to them.
    const slope = variance > 1e-3 * meanRows * meanRows ? covariance / variance : meanMs / (2 * Math.max(1, meanRows));
    this.rowMs = Math.min(Math.max(slope, 0), meanMs / Math.max(1, meanRows));
    this.fixedMs = meanMs - this.rowMs * meanRows;
  }

  #refresh(): void {
    this.typicalRatio = this.#ratios.at(0.5);
    this.hedgeRatio = this.#ratios.at(HEDGE_QUANTILE);
    this.deadlineRatio = this.#ratios.at(DEADLINE_QUANTILE);
  }
}

/**
 * A fixed part and a part per row for each worker and lane, fitted to its replies, and quantiles of what calls take
 * relative to that.
 */
export class MeasuredLatency implements LatencyTracker {
  readonly #o: LatencyOptions;
  readonly #workers = new Map<string, Record<Lane, Line>>();
  /** All workers together. */
  readonly #fleet: Record<Lane, Line> = { decode: new Line(), prefill: new Line() };

  constructor(options: LatencyOptions) {
    this.#o = options;
  }

  observe(worker: string, lane: Lane, rows: number, ms: number): void {
    let lines = this.#workers.get(worker);
    if (lines === undefined) this.#workers.set(worker, (lines = { decode: new Line(), prefill: new Line() }));
    const now = this.#o.clock.monotonicMs();
    lines[lane].observe(rows, ms, now);
    this.#fleet[lane].observe(rows, ms, now);
  }

  predictMs(worker: string, lane: Lane, rows: number): number {
    const fleet = this.#fleet[lane].predict(rows);
    const own = this.#workers.get(worker)?.[lane];
    if (own === undefined || own.numCalls === 0) return fleet;
    const trust = 2 ** ((own.lastMs - this.#o.clock.monotonicMs()) / FORGET_HALF_MS);
    return fleet + (own.predict(rows) - fleet) * trust;
  }

  hedgeAfterMs(worker: string, lane: Lane, rows: number): number {
    const own = this.#workers.get(worker)?.[lane];
    if (own === undefined || own.numCalls < ENOUGH) return Infinity;
    const fleet = this.#fleet[lane];
    const typical = fleet.predict(rows) * fleet.typicalRatio * HEDGE_TYPICAL_FACTOR;
    return Math.max(this.#o.leastHedgeMs ?? LEAST_HEDGE_MS, Math.min(own.predict(rows) * own.hedgeRatio, typical));
  }

  deadlineMs(worker: string, lane: Lane, rows: number): number {
    const limit = this.#o.limitMs[lane];
    const own = this.#workers.get(worker)?.[lane];
    const isKnown = own !== undefined && own.numCalls >= ENOUGH;
    const line = isKnown ? own : this.#fleet[lane];
    if (line.numCalls < ENOUGH) return limit;
    const measured = line.predict(rows) * line.deadlineRatio * DEADLINE_FACTOR * (isKnown ? 1 : STRANGER_FACTOR);
    return Math.min(limit, Math.max(this.#o.leastDeadlineMs ?? LEAST_DEADLINE_MS, measured));
  }

  forget(worker: string): void {
    this.#workers.delete(worker);
  }
}
