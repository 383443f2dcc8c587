import { type Clock, errorMessage, type Logger, Poller, type QuarantineStore } from '@guildhall/common';

/** What gateways share of it. */
export type SharedQuarantine = Pick<QuarantineStore, 'add' | 'read' | 'onChange'>;

export interface QuarantineOptions {
  /** Null for a gateway that shares with nobody. */
  shared: SharedQuarantine | null;
  clock: Clock;
  logger: Logger;
  /** How long a request is refused, milliseconds; 0 for never. */
  ms: number;
}

interface Entry {
  /** By this process's monotonic clock. */
  untilMs: number;
  /** Redis has it as well. */
  shared: boolean;
}

/** Fingerprints kept here at most. */
const MAX_ENTRIES = 10_000;
const POLL_MS = 5000;

/**
 * Requests that are refused because they broke processes. Every gateway has all of them in memory, so that looking costs
 * nothing and goes on while Redis is away; what was added meanwhile is shared when it is back.
 */
export class Quarantine {
  readonly #o: QuarantineOptions;
  /** In the order in which they were added. */
  readonly #entries = new Map<string, Entry>();
  readonly #poller: Poller;
  #unsubscribe: (() => void) | null = null;

  constructor(options: QuarantineOptions) {
    this.#o = options;
    this.#poller = new Poller(options.clock, POLL_MS, () => this.#exchange());
  }

  /** Resolves when what others have quarantined is known, or cannot be had now. */
  async start(): Promise<void> {
    if (this.#o.shared === null || this.#o.ms === 0) return;
    this.#unsubscribe = this.#o.shared.onChange(() => this.#poller.poke());
    await this.#poller.start();
  }

  async stop(): Promise<void> {
    this.#unsubscribe?.();
    await this.#poller.stop();
  }

  /** Requests that are refused now, perhaps a few more. */
  get size(): number {
    return this.#entries.size;
  }

  /** Milliseconds for which a request is still refused; 0 for one that is taken. */
  leftMs(fingerprint: string): number {
    const entry = this.#entries.get(fingerprint);
    if (entry === undefined) return 0;
    const leftMs = entry.untilMs - this.#o.clock.monotonicMs();
    if (leftMs > 0) return leftMs;
    this.#entries.delete(fingerprint);
    return 0;
  }

  /** Refuses a request from now on, here at once and in the other gateways soon. */
  add(fingerprint: string): void {
    if (this.#o.ms === 0) return;
    this.#put(fingerprint, this.#o.ms, false);
    this.#poller.poke();
  }

  #put(fingerprint: string, leftMs: number, shared: boolean): void {
    this.#entries.delete(fingerprint);
    this.#entries.set(fingerprint, { untilMs: this.#o.clock.monotonicMs() + leftMs, shared });
    const oldest = this.#entries.keys().next();
    if (this.#entries.size > MAX_ENTRIES && oldest.done !== true) this.#entries.delete(oldest.value);
  }

  /** Tells Redis what it does not know, and takes what others have added or lifted. */
  async #exchange(): Promise<void> {
    const { shared, logger } = this.#o;
    if (shared === null) return;
    try {
      for (const [fingerprint, entry] of this.#entries) {
        const leftMs = entry.shared ? 0 : this.leftMs(fingerprint);
        if (leftMs > 0) await shared.add(fingerprint, leftMs);
        entry.shared = true;
      }
      const known = new Map(this.#entries);
      const list = await shared.read();
      for (const { fingerprint, leftMs } of list) this.#put(fingerprint, leftMs, true);
      const listed = new Set(list.map(({ fingerprint }) => fingerprint));
      // What was added while the answer was on its way is not in it.
      for (const fingerprint of known.keys()) if (!listed.has(fingerprint)) this.#entries.delete(fingerprint);
    } catch (err) {
      logger.debug({ reason: errorMessage(err) }, 'the quarantine is not exchanged');
    }
  }
}
