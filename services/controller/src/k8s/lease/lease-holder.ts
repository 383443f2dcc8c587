import { type Clock, errorMessage, type Logger } from '@guildhall/common';
import type { LeaseOwner, LeaseRecord, LeaseStore } from './lease-record.ts';

export interface LeaseHolderOptions {
  store: Pick<LeaseStore, 'read' | 'write'>;
  clock: Clock;
  logger: Logger;
  /** Unique to this process's start. */
  identity: string;
  /** Whom the Lease goes with; null when that is not known yet. */
  owner: () => LeaseOwner | null;
  durationMs?: number;
  renewMs?: number;
}

/** As client-go's defaults: others wait 15 s, a holder that could not renew gives up after 10 s and tries every 2 s. */
export const LEASE_DURATION_MS = 15_000;
export const LEASE_RENEW_MS = 2_000;
/** Share of the duration after which a holder that could not renew gives up, before anybody else may take it. */
const GIVE_UP = 2 / 3;

/** What an attempt came to. `away`: the API server did not answer, or not usefully. */
export type LeaseAnswer = 'held' | 'other' | 'away';

/** Order of the holders of a Lease: the later created Lease first, then the later change of holder. */
export interface LeaseTerm {
  bornS: number;
  transitions: number;
}

/**
 * Takes and renews a Lease by the rules of client-go, so that clocks may differ: another's lease is over when its record did not
 * change for its whole duration by our own monotonic clock; the times in it are for people.
 */
export class LeaseHolder {
  readonly #o: LeaseHolderOptions;
  readonly #durationMs: number;
  /** The record seen last, and when it was first seen so. */
  #seen: { record: LeaseRecord; atMs: number } | null = null;
  /** When our hold ends unless it is renewed, on the monotonic clock. */
  #untilMs = Number.NEGATIVE_INFINITY;
  /** When the API server last answered. */
  #answeredMs: number;

  constructor(options: LeaseHolderOptions) {
    this.#o = options;
    this.#durationMs = options.durationMs ?? LEASE_DURATION_MS;
    this.#answeredMs = options.clock.monotonicMs();
  }

  /** True while nobody else may have taken it. */
  get held(): boolean {
    return this.#o.clock.monotonicMs() < this.#untilMs;
  }

  /** The term of our hold; null while it is not ours by the record seen last. */
  get term(): LeaseTerm | null {
    const record = this.#seen?.record;
    return record?.holder === this.#o.identity ? { bornS: record.bornS, transitions: record.transitions } : null;
  }

  /** Who held it when it was last seen; null when nobody did. */
  get holder(): string | null {
    const holder = this.#seen?.record.holder ?? '';
    return holder === '' ? null : holder;
  }

  /** Time since the API server last answered, in ms. */
  get silentMs(): number {
    return this.#o.clock.monotonicMs() - this.#answeredMs;
  }

  /** One attempt to renew it, or to take it if it is free. Never throws. */
  async attempt(): Promise<LeaseAnswer> {
    const { clock, logger } = this.#o;
    try {
      // A holder's renewal is one request: it names the version that it wrote last.
      const fast = this.held && this.term !== null ? await this.#write(this.#seen?.record ?? null) : null;
      const answer = fast ?? (await this.#tryTake());
      this.#answeredMs = clock.monotonicMs();
      if (answer === 'other') this.#untilMs = Number.NEGATIVE_INFINITY;
      return answer;
    } catch (err) {
      logger.debug({ reason: errorMessage(err) }, 'the Lease was not reached');
      return 'away';
    }
  }

  /** Gives it up, so that another can take it at once. Never throws. */
  async release(): Promise<void> {
    const record = this.#seen?.record ?? null;
    if (record === null || !this.held || this.term === null) return;
    this.#untilMs = Number.NEGATIVE_INFINITY;
    const { store, logger, owner } = this.#o;
    const { transitions, acquired } = record;
    try {
      const write = { holder: '', durationMs: 1000, transitions, acquired, renewed: this.#nowText() };
      await store.write(record, write, owner());
    } catch (err) {
      logger.warn({ reason: errorMessage(err) }, 'the Lease was not released; it will end by itself');
    }
  }

  async #tryTake(): Promise<LeaseAnswer> {
    const { store, identity, clock } = this.#o;
    const record = await store.read();
    this.#see(record);
    const seen = this.#seen;
    if (seen !== null && seen.record.holder !== '' && seen.record.holder !== identity) {
      const overMs = seen.atMs + seen.record.durationMs;
      if (clock.monotonicMs() < overMs) return 'other';
    }
    return (await this.#write(record)) ?? 'other';
  }

  /** Writes ourselves over `record`; null when somebody else wrote first. */
  async #write(record: LeaseRecord | null): Promise<LeaseAnswer | null> {
    const { store, identity, clock, owner } = this.#o;
    const askedMs = clock.monotonicMs();
    const renewed = this.#nowText();
    const mine = record?.holder === identity;
    const write = {
      holder: identity,
      durationMs: this.#durationMs,
      transitions: record === null ? 0 : record.transitions + (mine ? 0 : 1),
      acquired: mine ? record.acquired : renewed,
      renewed,
    };
    const written = await store.write(record, write, owner());
    if (written === null) return null;
    this.#seen = { record: written, atMs: clock.monotonicMs() };
    // Counted from before the request, so that we give up first.
    this.#untilMs = askedMs + this.#durationMs * GIVE_UP;
    return 'held';
  }

  #see(record: LeaseRecord | null): void {
    if (record === null) this.#seen = null;
    else if (this.#seen?.record.version !== record.version) this.#seen = { record, atMs: this.#o.clock.monotonicMs() };
  }

  /** MicroTime: six digits. */
  #nowText(): string {
    return new Date(this.#o.clock.nowMs()).toISOString().replace('Z', '000Z');
  }
}
