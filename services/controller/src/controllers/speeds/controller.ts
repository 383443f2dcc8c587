import type { Clock } from '@guildhall/common';
import type { WorkerInfo } from '../../store/worker-store.ts';

/** Microseconds that a worker needs for one expert row, and for one message besides its rows. */
export interface Speed {
  usPerRow: number;
  usPerMessage: number;
}

/** What a worker is taken for while none has measured itself; only the ratio of workers to each other matters much. */
const UNMEASURED: Speed = { usPerRow: 20, usPerMessage: 150 };
/** A new measurement counts for about two thirds after this time. */
const SMOOTH_MS = 30_000;

interface Known extends Speed {
  incarnation: bigint;
  atMs: number;
}

/** Smooths what workers measure of themselves; one that has not measured yet is taken for a middling one. */
export class SpeedsController {
  readonly #clock: Clock;
  #known = new Map<string, Known>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Speeds of these workers, by id. */
  reconcile(workers: readonly WorkerInfo[]): ReadonlyMap<string, Speed> {
    const nowMs = this.#clock.monotonicMs();
    const known = new Map<string, Known>();
    for (const worker of workers) {
      if (!measured(worker)) continue;
      known.set(worker.id, smoothed(this.#known.get(worker.id), worker, nowMs));
    }
    this.#known = known;
    const middling = middle([...known.values()]);
    return new Map(
      workers.map(({ id }) => {
        const { usPerRow, usPerMessage } = known.get(id) ?? middling;
        return [id, { usPerRow, usPerMessage }];
      }),
    );
  }
}

function measured({ usPerRow, usPerMessage }: Speed): boolean {
  return Number.isFinite(usPerRow) && Number.isFinite(usPerMessage) && usPerRow > 0 && usPerMessage >= 0;
}

/** Another incarnation of a worker may run on another machine: it begins anew. */
function smoothed(before: Known | undefined, worker: WorkerInfo, nowMs: number): Known {
  const { incarnation, usPerRow, usPerMessage } = worker;
  if (before?.incarnation !== incarnation) return { incarnation, usPerRow, usPerMessage, atMs: nowMs };
  const share = 1 - Math.exp(-(nowMs - before.atMs) / SMOOTH_MS);
  return {
    incarnation,
    usPerRow: before.usPerRow + share * (usPerRow - before.usPerRow),
    usPerMessage: before.usPerMessage + share * (usPerMessage - before.usPerMessage),
    atMs: nowMs,
  };
}

function middle(speeds: readonly Speed[]): Speed {
  if (speeds.length === 0) return UNMEASURED;
  const median = (values: number[]): number => values.sort((a, b) => a - b)[Math.floor((values.length - 1) / 2)] ?? 0;
  return {
    usPerRow: median(speeds.map((speed) => speed.usPerRow)),
    usPerMessage: median(speeds.map((speed) => speed.usPerMessage)),
  };
}
