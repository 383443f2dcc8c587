import { type Clock, errorMessage, type Logger, Poller, type QuarantineStore, type Timer } from '@guildhall/common';

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

/** Fingerprints kept here at most. */
const MAX_ENTRIES = 10_000;
const POLL_MS = 5000;
/** A Redis that gave no answer is asked again after so long. */
const RETRY_MS = 500;

/**
 * Requests that are refused because they broke processes. Every gateway has all of them in memory, so that looking costs
 * nothing and goes on while Redis is away; what was added meanwhile, or was lost with it, is shared again when it is back.
 */
export class Quarantine {
  readonly #o: QuarantineOptions;
  /** Ends of quarantines by this process's monotonic clock, in the order in which they were added. */
  readonly #untilMs = new Map<string, number>();
  readonly #poller: Poller;
  #unsubscribe: (() => void) | null = null;
  #retry: Timer | null = null;

  constructor(options: QuarantineOptions) {
    this.#o = options;
    this.#poller = new Poller(options.clock, POLL_MS, () => this.#exchange());
  }

  /** Resolves when what others have quarantined is known, or cannot be had as yet. */
  async start(): Promise<void> {
    if (this.#o.shared === null || this.#o.ms === 0) return;
    this.#unsubscribe = this.#o.shared.onChange(() => this.#poller.poke());
    await this.#poller.start();
  }

  async stop(): Promise<void> {
    this.#unsubscribe?.();
    this.#retry?.cancel();
    await this.#poller.stop();
  }

  /** Requests that are refused now, perhaps a few more. */
  get size(): number {
    return this.#untilMs.size;
  }

  /** Milliseconds for which a request is still refused; 0 for one that is taken. */
  leftMs(fingerprint: string): number {
    const untilMs = this.#untilMs.get(fingerprint);
    if (untilMs === undefined) return 0;
    const leftMs = untilMs - this.#o.clock.monotonicMs();
    if (leftMs > 0) return leftMs;
    this.#untilMs.delete(fingerprint);
    return 0;
  }

  /** Refuses a request from now on, here at once and in the other gateways soon. */
  add(fingerprint: string): void {
    if (this.#o.ms === 0) return;
    this.#put(fingerprint, this.#o.ms);
    this.#poller.poke();
  }

  #put(fingerprint: string, leftMs: number): void {
    this.#untilMs.delete(fingerprint);
    this.#untilMs.set(fingerprint, this.#o.clock.monotonicMs() + leftMs);
    const oldest = this.#untilMs.keys().next();
    if (this.#untilMs.size > MAX_ENTRIES && oldest.done !== true) this.#untilMs.delete(oldest.value);
  }

  /** Takes what others have added, and tells Redis what it does not know or has lost. */
  async #exchange(): Promise<void> {
    const { shared, logger, clock } = this.#o;
    if (shared === null) return;
    try {
      const list = await shared.read();
      for (const { fingerprint, leftMs } of list) this.#put(fingerprint, leftMs);
      const known = new Set(list.map(({ fingerprint }) => fingerprint));
      for (const fingerprint of this.#untilMs.keys()) {
        const leftMs = known.has(fingerprint) ? 0 : this.leftMs(fingerprint);
        if (leftMs > 0) await shared.add(fingerprint, leftMs);
      }
    } catch (err) {
      logger.debug({ reason: errorMessage(err) }, 'the quarantine is not exchanged');
      this.#retry?.cancel();
      this.#retry = clock.setTimer(RETRY_MS, () => this.#poller.poke());
    }
  }
}
