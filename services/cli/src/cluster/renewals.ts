import { type Clock, errorMessage, type Timer } from '@guildhall/common';
import type { JoinedDir } from './joined-dir.ts';
import { isRenewalDue, renewMembership } from './membership.ts';

const CHECK_MS = 10_000;
/** Between two attempts when the head is away: there are days left. */
const RETRY_MS = 600_000;

export interface RenewalEvents {
  /** A new certificate is in the folder. */
  onRenewed: () => Promise<void>;
  event: (message: string) => void;
}

/** Renews the certificate of a running member in time. */
export class Renewals {
  readonly #dir: JoinedDir;
  readonly #clock: Clock;
  readonly #on: RenewalEvents;
  readonly #timer: Timer;
  #running: Promise<void> | null = null;
  #notBeforeMs = 0;

  constructor(dir: JoinedDir, clock: Clock, events: RenewalEvents) {
    this.#dir = dir;
    this.#clock = clock;
    this.#on = events;
    this.#timer = clock.setInterval(CHECK_MS, () => void this.check());
  }

  /** Renews if it is time; resolves when that is done. */
  check(): Promise<void> {
    this.#running ??= this.#renewIfDue().finally(() => (this.#running = null));
    return this.#running;
  }

  /** Resolves when a renewal that is under way has ended. */
  async stop(): Promise<void> {
    this.#timer.cancel();
    await this.#running;
  }

  async #renewIfDue(): Promise<void> {
    const nowMs = this.#clock.nowMs();
    if (nowMs < this.#notBeforeMs) return;
    try {
      if (!isRenewalDue(this.#dir.membership(), nowMs)) return;
      const { expiresAtMs } = await renewMembership(this.#dir, this.#clock);
      this.#on.event(
        `the certificate is new, until ${new Date(expiresAtMs).toISOString()}; the worker starts again with it`,
      );
      await this.#on.onRenewed();
    } catch (err) {
      this.#notBeforeMs = nowMs + RETRY_MS;
      this.#on.event(`the certificate was not renewed: ${errorMessage(err)}`);
    }
  }
}
