import { type Clock, fail, type Metrics, toGuildhallError } from '@guildhall/common';
import type { RouterPool } from './routing/router-pool.ts';

export interface HoldOptions {
  pool: RouterPool;
  /** Longest time that a request is held, ms; 0: none is. */
  holdMs: number;
  /** Requests held at a time. */
  maxHeld: number;
  clock: Clock;
  metrics: Metrics;
}

/** A model that wakes up takes about as long; who is turned away need not come back sooner. */
const RETRY_AFTER_S = 15;
/** Members change in between, so this only bounds how long a change that was missed goes unseen. */
const LOOK_MS = 1000;

/**
 * Holds requests while no router is there, because the model is scaled to zero or starts. They are counted in what the gateway says
 * of itself, which is what wakes the model up.
 */
export class Hold {
  readonly #o: HoldOptions;
  #held = 0;
  /** Called when the first request is held, and when the last one goes on. */
  onChange: () => void = () => {};

  constructor(options: HoldOptions) {
    this.#o = options;
  }

  get enabled(): boolean {
    return this.#o.holdMs > 0;
  }

  /** Requests that are held now. */
  get size(): number {
    return this.#held;
  }

  /**
   * Returns once a router takes requests: false where one did from the beginning, or nothing is held. Throws `overloaded` when
   * too many are held, `no_router` when nobody has come in time, and the signal's reason.
   */
  async wait(signal: AbortSignal): Promise<boolean> {
    const { pool, holdMs, maxHeld, clock, metrics } = this.#o;
    if (!this.enabled || pool.usable.length > 0) return false;
    if (this.#held >= maxHeld) {
      metrics.count('guildhall_gateway_holds_total', { outcome: 'refused' });
      throw this.#refused('overloaded', `no router is up, and ${maxHeld} requests wait for one already`);
    }
    const beganMs = clock.monotonicMs();
    this.#count(1);
    try {
      while (pool.usable.length === 0) {
        if (signal.aborted) throw toGuildhallError(signal.reason);
        const leftMs = beganMs + holdMs - clock.monotonicMs();
        if (leftMs <= 0) throw this.#refused('no_router', `no router has come within ${holdMs} ms`);
        await this.#change(Math.min(leftMs, LOOK_MS), signal);
      }
    } catch (err) {
      metrics.count('guildhall_gateway_holds_total', { outcome: signal.aborted ? 'gone' : 'timeout' });
      throw err;
    } finally {
      this.#count(-1);
    }
    metrics.count('guildhall_gateway_holds_total', { outcome: 'served' });
    metrics.observe('guildhall_gateway_hold_seconds', (clock.monotonicMs() - beganMs) / 1000);
    return true;
  }

  async #change(ms: number, signal: AbortSignal): Promise<void> {
    try {
      await this.#o.pool.waitForChange(ms, signal);
    } catch (err) {
      throw signal.aborted ? toGuildhallError(signal.reason) : err;
    }
  }

  #refused(code: 'overloaded' | 'no_router', message: string): Error {
    return fail(code, message, { details: { retryAfterS: RETRY_AFTER_S } });
  }

  #count(by: 1 | -1): void {
    const before = this.#held;
    this.#held += by;
    this.#o.metrics.gauge('guildhall_gateway_held_requests', this.#held);
    if ((before === 0) !== (this.#held === 0)) this.onChange();
  }
}
