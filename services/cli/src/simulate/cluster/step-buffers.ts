import type { ForwardHeader } from '@guildhall/native';
import type { DispatchBuffers } from '@guildhall/router/scheduling';
import type { SimClock } from '../kernel/sim-clock.ts';

/** What a message carries, as far as its time depends on it. */
export interface MessageWork {
  rows: number;
  /** (row, expert) pairs. */
  entries: number;
  /** Different experts among them. */
  experts: number;
}

/** Results of a step's rows as they came, over all of a router's steps. */
export interface RowCounts {
  /** Pairs of row and expert that were dispatched, and those whose result came. */
  wanted: number;
  filled: number;
  /** Results for a pair that was filled already: there must be none. */
  twice: number;
}

const FRAME_BYTES = 12;

/** A micro-batch's buffers without rows: messages say only how much there is in them. */
export class SimStep implements DispatchBuffers {
  readonly topkIds: Int32Array;
  readonly topkWeights: Float32Array;
  readonly #clock: SimClock;
  readonly #counts: RowCounts;
  readonly #filled: Uint8Array;
  readonly #stamps: Int32Array;
  #stamp = 0;
  #missing = 0;

  constructor(clock: SimClock, rows: number, topK: number, numExperts: number, counts: RowCounts) {
    this.#clock = clock;
    this.#counts = counts;
    this.topkIds = new Int32Array(rows * topK);
    this.topkWeights = new Float32Array(rows * topK);
    this.#filled = new Uint8Array(rows * topK);
    this.#stamps = new Int32Array(numExperts);
  }

  packForward(_header: ForwardHeader, rowIndex: Int32Array, _entryCount: Int32Array, experts: Int32Array): Buffer {
    const frame = Buffer.allocUnsafe(FRAME_BYTES);
    frame.writeInt32LE(rowIndex.length, 0);
    frame.writeInt32LE(experts.length, 4);
    frame.writeInt32LE(this.#distinct(experts), 8);
    return frame;
  }

  beginCombine(): void {
    this.#missing = this.#filled.length;
    this.#filled.fill(0);
    this.#counts.wanted += this.#missing;
  }

  unpackReply(_frame: Uint8Array, slots: Int32Array): void {
    for (const slot of slots) {
      if (this.#filled[slot] === 1) this.#counts.twice += 1;
      else this.#missing -= 1;
      this.#filled[slot] = 1;
    }
    this.#counts.filled += slots.length;
    // The model waits for the last row.
    if (this.#missing === 0) this.#clock.settle();
  }

  missing(): number {
    return this.#missing;
  }

  #distinct(experts: Int32Array): number {
    this.#stamp += 1;
    let count = 0;
    for (const expert of experts) {
      if (this.#stamps[expert] === this.#stamp) continue;
      this.#stamps[expert] = this.#stamp;
      count += 1;
    }
    return count;
  }
}

/** Reads what `packForward` wrote. */
export function workOf(frame: Buffer): MessageWork {
  return { rows: frame.readInt32LE(0), entries: frame.readInt32LE(4), experts: frame.readInt32LE(8) };
}
