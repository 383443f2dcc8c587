import { BusyMeter, type Clock, twoDigits, WindowPercentile, WindowSum } from '@guildhall/common';
import type { Engine, EngineObserver } from './engine.ts';
import type { StepRunner } from './runner.ts';
import type { Sequence } from './sequence.ts';

/** What a router tells of its load beside its queue. Absent: not measured, which is not zero. */
export interface MeasuredLoad {
  busy: number | undefined;
  ttftP95Ms: number | undefined;
  itlP95Ms: number | undefined;
  offeredTokensPerSecond: number | undefined;
  computedTokensPerSecond: number | undefined;
}

const LATENCY_MS = 30_000;
const P95 = 0.95;
/** Share that a request takes of the mean: about the last twenty count. */
const SHARE = 0.05;

/**
 * Measures a router's load for the autoscaler. What is offered is the requests that arrive, each with the tokens that requests have
 * needed on the mean: while queues grow it is more than what is computed.
 */
export class LoadMeter {
  readonly #busy: BusyMeter;
  readonly #arrivals: WindowSum;
  readonly #computed: WindowSum;
  readonly #ttft: WindowPercentile;
  readonly #itl: WindowPercentile;
  /** Tokens computed of a request, mean of those that have ended; null before one has. */
  #tokensOfRequest: number | null = null;

  constructor(clock: Clock) {
    this.#busy = new BusyMeter(clock);
    this.#arrivals = new WindowSum(clock, LATENCY_MS);
    this.#computed = new WindowSum(clock, LATENCY_MS);
    this.#ttft = new WindowPercentile(clock, LATENCY_MS);
    this.#itl = new WindowPercentile(clock, LATENCY_MS);
  }

  /** The engine as requests come to it: each one that it takes is counted. */
  counting(engine: Pick<Engine, 'submit' | 'cancel' | 'wake'>): Pick<Engine, 'submit' | 'cancel' | 'wake'> {
    return {
      submit: (...args) => {
        const seq = engine.submit(...args);
        this.#arrivals.add(1);
        return seq;
      },
      cancel: (seq) => engine.cancel(seq),
      wake: () => engine.wake(),
    };
  }

  /** The runner with its steps measured. */
  timing(runner: StepRunner): StepRunner {
    const timed = async <T>(step: Promise<T>): Promise<T> => {
      this.#busy.begin();
      try {
        return await step;
      } finally {
        this.#busy.end();
      }
    };
    return {
      decode: (plan, view) => timed(runner.decode(plan, view)),
      prefill: (plan, view) => timed(runner.prefill(plan, view)),
    };
  }

  /** Tells `observer` everything, and measures it. */
  observing(observer: EngineObserver): EngineObserver {
    return {
      ...observer,
      step: (lane, tokens, ms) => {
        this.#computed.add(tokens);
        observer.step(lane, tokens, ms);
      },
      token: (seq, previousAtMs, nowMs) => {
        if (previousAtMs === null) this.#ttft.add(nowMs - seq.arrivedAtMs);
        else this.#itl.add(nowMs - previousAtMs);
        observer.token(seq, previousAtMs, nowMs);
      },
      finished: (seq, reason, nowMs) => {
        this.#ended(seq);
        observer.finished(seq, reason, nowMs);
      },
      failed: (seq, error) => {
        this.#ended(seq);
        observer.failed(seq, error);
      },
    };
  }

  #ended(seq: Sequence): void {
    const tokens = Math.max(0, seq.numComputed - (seq.prefix?.cachedTokens ?? 0));
    const before = this.#tokensOfRequest ?? tokens;
    this.#tokensOfRequest = before + SHARE * (tokens - before);
  }

  get load(): MeasuredLoad {
    const offered = this.#tokensOfRequest === null ? null : this.#arrivals.perMs * 1000 * this.#tokensOfRequest;
    return {
      busy: rounded(this.#busy.share),
      ttftP95Ms: rounded(this.#ttft.at(P95)),
      itlP95Ms: rounded(this.#itl.at(P95)),
      offeredTokensPerSecond: this.#arrivals.known ? rounded(offered) : undefined,
      computedTokensPerSecond: this.#computed.known ? rounded(this.#computed.perMs * 1000) : undefined,
    };
  }
}

function rounded(value: number | null): number | undefined {
  return value === null ? undefined : twoDigits(value);
}
