import { randomBytes } from 'node:crypto';
import type { Clock, Timer } from '@guildhall/common';

/** What a parked sequence gives to the router that takes it over. Reads give null for what can no longer be had. */
export interface ParkedRecord {
  /** Tokens whose K, V and state are in place. */
  readonly numComputed: number;
  /** SHA-256 over those token ids, as little-endian u32. */
  readonly tokenDigest: Uint8Array;
  readonly numPages: number;
  /** Pages before this one are shared, and had by name. */
  readonly firstOwnPage: number;
  /** K and V of an own page, in [firstOwnPage, numPages). */
  page(index: number): Promise<{ data: Uint8Array; checksum: number } | null>;
  /** State and convolution window; null for models without too. */
  state(): Promise<{ data: Uint8Array; checksum: number } | null>;
  /** Gives its memory back; called once. */
  release(): void;
}

/** How a parked sequence left. */
export type ParkedEnd = 'taken' | 'expired' | 'dropped';

export interface ParkedOptions {
  clock: Clock;
  /** Time after which a sequence that nobody has taken over is given up, milliseconds. */
  limitMs: number;
  onEnd: (how: ParkedEnd) => void;
}

interface Entry {
  record: ParkedRecord;
  /** Transfers that read it now. */
  readers: number;
  timer: Timer;
  ended: boolean;
}

/** Sequences that wait for another router to take them over, each under a handle that cannot be guessed. */
export class ParkedSequences {
  readonly #o: ParkedOptions;
  readonly #entries = new Map<string, Entry>();

  constructor(options: ParkedOptions) {
    this.#o = options;
  }

  get size(): number {
    return this.#entries.size;
  }

  /** Keeps a record until it is taken over or its time is up; returns its handle. */
  park(record: ParkedRecord): string {
    const handle = randomBytes(24).toString('base64url');
    const timer = this.#o.clock.setTimer(this.#o.limitMs, () => this.#end(handle, 'expired'));
    this.#entries.set(handle, { record, readers: 0, timer, ended: false });
    return handle;
  }

  /** The record behind a handle, kept until `close` is called even if it ends meanwhile; null for an unknown handle. */
  open(handle: string): { record: ParkedRecord; close: () => void } | null {
    const entry = this.#entries.get(handle);
    if (entry === undefined) return null;
    entry.readers += 1;
    let open = true;
    const close = (): void => {
      if (!open) return;
      open = false;
      entry.readers -= 1;
      freeIfUnused(entry);
    };
    return { record: entry.record, close };
  }

  /** The sequence goes on elsewhere. False for an unknown handle. */
  release(handle: string): boolean {
    return this.#end(handle, 'taken');
  }

  /** Gives all of them up. */
  drop(): void {
    for (const handle of this.#entries.keys()) this.#end(handle, 'dropped');
  }

  #end(handle: string, how: ParkedEnd): boolean {
    const entry = this.#entries.get(handle);
    if (entry === undefined) return false;
    this.#entries.delete(handle);
    entry.timer.cancel();
    entry.ended = true;
    freeIfUnused(entry);
    this.#o.onEnd(how);
    return true;
  }
}

function freeIfUnused(entry: Entry): void {
  if (entry.ended && entry.readers === 0) entry.record.release();
}
