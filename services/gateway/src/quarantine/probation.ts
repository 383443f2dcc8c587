import {
  type Clock,
  errorMessage,
  type Logger,
  newIncarnation,
  type QuarantineStore,
  type Timer,
} from '@guildhall/common';

export type SharedPlaces = Pick<QuarantineStore, 'hold' | 'letGo'>;

export interface ProbationOptions {
  /** Null for a gateway that shares with nobody. */
  shared: SharedPlaces | null;
  clock: Clock;
  logger: Logger;
  /** A place may have become free. */
  onFree: () => void;
}

/** The place of one suspicious stream in a router. */
export interface Place {
  /** Nobody else who is suspicious has been let into the router. */
  held(): boolean;
  /** Gives it up after `ms`, at once for 0. */
  release(ms?: number): void;
}

/** A place in Redis outlives its gateway by so much. */
const LEASE_MS = 6000;
/** A Redis that has just failed is not asked for so long. */
const AWAY_MS = 5000;
/** A place that another gateway has is asked for again after so long. */
const ASK_AGAIN_MS = 200;

/**
 * One place in each router for a stream that may have killed the last one, so that the next death shows whether it did.
 * Gateways share the places by short leases in Redis; while it is away each has its own.
 */
export class Probation {
  readonly #o: ProbationOptions;
  /** Unique to this process's start. */
  readonly #self = newIncarnation().toString(16);
  #count = 0;
  /** Routers with a stream of this gateway in their place. */
  readonly #held = new Set<string>();
  /** Monotonic times until which others have the places of routers, as far as is known. */
  readonly #elsewhere = new Map<string, number>();
  #awayUntilMs = 0;

  constructor(options: ProbationOptions) {
    this.#o = options;
  }

  /** Whether a router's place is taken, as far as is known here. */
  busy(router: string): boolean {
    return this.#held.has(router) || (this.#elsewhere.get(router) ?? 0) > this.#o.clock.monotonicMs();
  }

  /** True while any stream of this gateway is in probation. */
  get active(): boolean {
    return this.#held.size > 0;
  }

  /** Takes the place in a router, or returns null when another stream has it. */
  async enter(router: string): Promise<Place | null> {
    if (this.busy(router)) return null;
    this.#held.add(router);
    this.#count += 1;
    const holder = `${this.#self}-${this.#count}`;
    if (await this.#hold(router, holder)) return this.#placeOf(router, holder);
    this.#held.delete(router);
    this.#elsewhere.set(router, this.#o.clock.monotonicMs() + ASK_AGAIN_MS);
    return null;
  }

  #placeOf(router: string, holder: string): Place {
    const { clock, onFree } = this.#o;
    const renewing = clock.setInterval(LEASE_MS / 3, () => void this.#hold(router, holder));
    let held = true;
    let timer: Timer | null = null;
    const free = (): void => {
      timer?.cancel();
      if (!held) return;
      held = false;
      renewing.cancel();
      this.#held.delete(router);
      void this.#letGo(router, holder);
      onFree();
    };
    return {
      held: () => held,
      release: (ms = 0) => {
        if (ms === 0) free();
        else timer ??= clock.setTimer(ms, free);
      },
    };
  }

  /** False when another gateway has the place; true also when nobody can say. */
  async #hold(router: string, holder: string): Promise<boolean> {
    const { shared, clock, logger } = this.#o;
    if (shared === null || clock.monotonicMs() < this.#awayUntilMs) return true;
    try {
      return await shared.hold(router, holder, LEASE_MS);
    } catch (err) {
      this.#awayUntilMs = clock.monotonicMs() + AWAY_MS;
      logger.debug({ router, reason: errorMessage(err) }, 'the place is not shared');
      return true;
    }
  }

  async #letGo(router: string, holder: string): Promise<void> {
    try {
      await this.#o.shared?.letGo(router, holder);
    } catch (err) {
      this.#o.logger.debug({ router, reason: errorMessage(err) }, 'a place is left to its lease');
    }
  }
}
