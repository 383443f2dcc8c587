import type { Clock } from '@guildhall/common';
import type { PullFault } from './wire.ts';

const FIRST_MS = 2000;
const LONGEST_MS = 300_000;
/** A holder that serves as many as it may is no faulty one. */
const BUSY_MS = 500;
const MAX_HOLDERS = 256;

interface Record {
  faults: number;
  untilMs: number;
  /** Faults of this holder that the log has. */
  logged: Set<PullFault>;
}

/** Which other routers are left alone for a while, because transfers from them went wrong. */
export class PeerStanding {
  readonly #clock: Clock;
  readonly #records = new Map<string, Record>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  avoided(holder: string): boolean {
    const record = this.#records.get(holder);
    return record !== undefined && record.untilMs > this.#clock.monotonicMs();
  }

  /** A transfer ended well: all is forgiven. */
  succeeded(holder: string): void {
    this.#records.delete(holder);
  }

  /** A transfer failed; each further time in a row doubles the pause. True the first time that it fails like this. */
  failed(holder: string, fault: PullFault): boolean {
    const record = this.#records.get(holder) ?? { faults: 0, untilMs: 0, logged: new Set() };
    let pause = BUSY_MS;
    if (fault !== 'busy') {
      record.faults += 1;
      // Routers that do not fit together will not fit the next minute.
      pause = fault === 'refused' ? LONGEST_MS : Math.min(LONGEST_MS, FIRST_MS * 2 ** (record.faults - 1));
    }
    record.untilMs = Math.max(record.untilMs, this.#clock.monotonicMs() + pause);
    this.#records.delete(holder);
    this.#records.set(holder, record);
    const oldest = this.#records.keys().next().value;
    if (this.#records.size > MAX_HOLDERS && oldest !== undefined) this.#records.delete(oldest);
    const first = !record.logged.has(fault);
    record.logged.add(fault);
    return first;
  }
}
