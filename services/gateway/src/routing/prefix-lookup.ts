import { type Clock, errorMessage, type Logger, type Metrics, type PageName, type Timer } from '@guildhall/common';

/** How much of a prompt a router holds, as the directory knows. */
export interface PrefixHolding {
  router: string;
  /** Pages that it holds from the prompt's beginning, without a gap. */
  pages: number;
  /** Pages up to the deepest point that it can resume from; at most `pages`. */
  resumePages: number;
  /** Slowest tier of the pages in front of that point: device, host or disk; null where none is known. */
  resumeTier: string | null;
}

export interface LookupOptions {
  /** The model keeps no state beside its pages, so that a prefix can be resumed behind any of them. */
  stateless: boolean;
  /** The answer is of no use after so long. */
  timeoutMs: number;
}

/** The directory of shared pages, as a gateway asks it: one round trip for all pages of a prompt. */
export interface PrefixDirectory {
  lookup(names: readonly PageName[], options: LookupOptions): Promise<readonly PrefixHolding[]>;
}

type Failure = 'slow' | 'away';

/** What a lookup found, or why nothing is known: the answer was late, or Redis gave none. */
export type LookupResult = { holdings: readonly PrefixHolding[] } | { failed: Failure };

/** What a lookup is about. */
export interface LookupQuestion {
  names: readonly PageName[];
  /** As in `LookupOptions`. */
  stateless: boolean;
  /** Predicted time that the answer may save, milliseconds: the more, the longer it is waited for. */
  worthMs: number;
}

export interface PrefixLookupOptions {
  directory: PrefixDirectory;
  clock: Clock;
  logger: Logger;
  metrics: Metrics;
  /** How long the request of a short prompt waits. */
  timeoutMs: number;
}

/** A long prompt waits for this share of the time that it may save, and for so many times the usual at most. */
const WORTH_SHARE = 0.02;
const MOST_WAIT = 10;

/** Lookups that Redis is asked at a time; a burst of requests waits its turn. */
const MAX_IN_FLIGHT = 32;
/** Lookups in a row that may be late before nobody waits any more. */
const MAX_LATE = 3;
const FIRST_PAUSE_MS = 250;
const MAX_PAUSE_MS = 8000;

/**
 * Asks the directory within a deadline. While Redis is away or slow the breaker is open: requests get their answer at
 * once, and now and then one of them also asks in the background whether Redis is back.
 */
export class PrefixLookup {
  readonly #options: PrefixLookupOptions;
  readonly #turns = new Turns(MAX_IN_FLIGHT);
  #late = 0;
  #pauseMs = FIRST_PAUSE_MS;
  /** Monotonic time until which nobody asks; null while the breaker is closed. */
  #openUntilMs: number | null = null;
  #openReason: Failure = 'away';
  #probing = false;

  constructor(options: PrefixLookupOptions) {
    this.#options = options;
  }

  /** True while requests do not wait for the directory. */
  get open(): boolean {
    return this.#openUntilMs !== null;
  }

  /** Never throws. Resolves within the deadline. */
  async find({ names, stateless, worthMs }: LookupQuestion): Promise<LookupResult> {
    const { clock, metrics } = this.#options;
    if (this.#openUntilMs !== null) {
      metrics.count('guildhall_routing_lookups_total', { outcome: 'skipped' });
      if (clock.monotonicMs() >= this.#openUntilMs && !this.#probing) void this.#probe({ names, stateless, worthMs });
      return { failed: this.#openReason };
    }
    return this.#ask({ names, stateless, worthMs });
  }

  async #probe(question: LookupQuestion): Promise<void> {
    this.#probing = true;
    const result = await this.#ask(question);
    this.#probing = false;
    if ('failed' in result) this.#stayOpen(result.failed);
  }

  async #ask(question: LookupQuestion): Promise<LookupResult> {
    const { clock, metrics, timeoutMs } = this.#options;
    const startedMs = clock.monotonicMs();
    const late = Promise.withResolvers<'late'>();
    const waitMs = Math.min(MOST_WAIT * timeoutMs, Math.max(timeoutMs, question.worthMs * WORTH_SHARE));
    const timer: Timer = clock.setTimer(waitMs, () => late.resolve('late'));
    const turn = this.#turns.take();
    let result: LookupResult = { failed: 'slow' };
    if ((await Promise.race([turn.ready, late.promise])) === 'late') {
      // It waited for other lookups: that says nothing of Redis yet, they will.
      turn.leave();
    } else {
      const asked = this.#askDirectory(question, waitMs).finally(() => turn.leave());
      const answer = await Promise.race([asked, late.promise]);
      result = answer === 'late' ? result : answer;
      if ('failed' in result) this.#onFailure(result.failed);
      else this.#onSuccess();
    }
    timer.cancel();
    metrics.observe('guildhall_routing_lookup_seconds', (clock.monotonicMs() - startedMs) / 1000);
    metrics.count('guildhall_routing_lookups_total', { outcome: outcomeOf(result) });
    return result;
  }

  async #askDirectory({ names, stateless }: LookupQuestion, timeoutMs: number): Promise<LookupResult> {
    const { directory, logger } = this.#options;
    try {
      return { holdings: await directory.lookup(names, { stateless, timeoutMs }) };
    } catch (err) {
      logger.debug({ reason: errorMessage(err) }, 'a lookup of cached prefixes failed');
      return { failed: 'away' };
    }
  }

  #onSuccess(): void {
    if (this.#openUntilMs !== null) this.#options.logger.info('cached prefixes are looked up again');
    this.#openUntilMs = null;
    this.#late = 0;
    this.#pauseMs = FIRST_PAUSE_MS;
  }

  // Requests that waited together fail together: only the first of them opens the breaker.
  #onFailure(reason: Failure): void {
    if (this.#openUntilMs !== null) return;
    this.#late += 1;
    if (reason === 'slow' && this.#late < MAX_LATE) return;
    this.#options.logger.warn({ reason }, 'cached prefixes are not looked up: routing by load');
    this.#stayOpen(reason);
  }

  #stayOpen(reason: Failure): void {
    this.#openReason = reason;
    this.#openUntilMs = this.#options.clock.monotonicMs() + this.#pauseMs;
    this.#pauseMs = Math.min(this.#pauseMs * 2, MAX_PAUSE_MS);
  }
}

/** Lets so many run at a time, in the order in which they came. */
class Turns {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(limit: number) {
    this.#free = limit;
  }

  /** `ready` resolves when it may run; `leave` must be called once, also before that. */
  take(): { ready: Promise<void>; leave: () => void } {
    const { promise, resolve } = Promise.withResolvers<void>();
    let started = false;
    const start = (): void => {
      started = true;
      resolve();
    };
    if (this.#free > 0) {
      this.#free -= 1;
      start();
    } else this.#waiting.push(start);
    return { ready: promise, leave: () => (started ? this.#next() : this.#drop(start)) };
  }

  #next(): void {
    const start = this.#waiting.shift();
    if (start === undefined) this.#free += 1;
    else start();
  }

  #drop(start: () => void): void {
    this.#waiting.splice(this.#waiting.indexOf(start), 1);
  }
}

function outcomeOf(result: LookupResult): string {
  if ('failed' in result) return result.failed;
  return result.holdings.some((holding) => holding.resumePages > 0) ? 'hit' : 'miss';
}
