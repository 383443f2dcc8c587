import type { Lane } from '@guildhall/native';
import type { SimClock } from './sim-clock.ts';

/** Bytes in one direction, one after another. Two lanes that are busy at a time share the rate. */
class Direction {
  readonly #bytesPerMs: number;
  readonly #freeAtMs: Record<Lane, number> = { decode: 0, prefill: 0 };
  bytes = 0;
  busyMs = 0;

  constructor(bytesPerMs: number) {
    this.#bytesPerMs = bytesPerMs;
  }

  /** Takes bytes that are there from `fromMs` on; returns when the first and the last of them are through. */
  take(lane: Lane, bytes: number, fromMs: number): { startMs: number; endMs: number } {
    const ms = bytes / this.#bytesPerMs;
    const other = lane === 'decode' ? 'prefill' : 'decode';
    const startMs = Math.max(fromMs, this.#freeAtMs[lane]);
    const together = Math.min(ms, Math.max(0, this.#freeAtMs[other] - startMs));
    const endMs = startMs + ms + together;
    this.#freeAtMs[lane] = endMs;
    if (together > 0) this.#freeAtMs[other] += together;
    this.bytes += bytes;
    this.busyMs += ms;
    return { startMs, endMs };
  }
}

/** A network card: both directions at its rate, full duplex. */
export class Nic {
  readonly sent: Direction;
  readonly received: Direction;

  /** Infinity for a link that takes no time. */
  constructor(bytesPerSecond: number) {
    this.sent = new Direction(bytesPerSecond / 1000);
    this.received = new Direction(bytesPerSecond / 1000);
  }

  get bytes(): number {
    return this.sent.bytes + this.received.bytes;
  }
}

export interface TransferOptions {
  clock: Clock;
  from: Nic;
  to: Nic;
  lane: Lane;
  bytes: number;
  latencyMs: number;
}
type Clock = Pick<SimClock, 'at' | 'monotonicMs'>;

/**
 * Sends a message: its bytes go through the sender's card, and on arrival through the receiver's, where they queue in
 * the order in which they arrive. `done` is called with the last byte.
 */
export function transfer({ clock, from, to, lane, bytes, latencyMs }: TransferOptions, done: () => void): void {
  const { startMs, endMs } = from.sent.take(lane, bytes, clock.monotonicMs());
  clock.at(startMs + latencyMs, () => {
    const received = to.received.take(lane, bytes, clock.monotonicMs());
    clock.at(Math.max(received.endMs, endMs + latencyMs), done);
  });
}
