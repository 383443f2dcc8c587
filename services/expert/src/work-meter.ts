import { BusyMeter, type Clock, twoDigits, WindowSum } from '@guildhall/common';
import type { Lane } from '@guildhall/native';
import type { ForwardTarget } from './batcher.ts';

/** What a worker tells of its load. Absent: not measured, which is not idle. */
export interface Work {
  busy: number | undefined;
  rowsPerSecond: number | undefined;
}

const WINDOW_MS = 10_000;

/** Measures how much a worker computes, for the autoscaler. */
export class WorkMeter {
  readonly #busy: BusyMeter;
  readonly #rows: WindowSum;

  constructor(clock: Clock) {
    this.#busy = new BusyMeter(clock, WINDOW_MS);
    this.#rows = new WindowSum(clock, WINDOW_MS);
  }

  /** `target` with the time of its forwards measured. */
  timing(target: ForwardTarget): ForwardTarget {
    return {
      forward: async (frame: Uint8Array, queueUs: number, lane: Lane) => {
        this.#busy.begin();
        try {
          return await target.forward(frame, queueUs, lane);
        } finally {
          this.#busy.end();
        }
      },
    };
  }

  /** So many expert rows were computed. */
  count(rows: number): void {
    this.#rows.add(rows);
  }

  get work(): Work {
    const { share } = this.#busy;
    return {
      busy: share === null ? undefined : twoDigits(share),
      rowsPerSecond: this.#rows.known ? twoDigits(this.#rows.perMs * 1000) : undefined,
    };
  }
}
