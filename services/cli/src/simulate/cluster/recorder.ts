import type { SequenceSink } from '@guildhall/router/scheduling';
import { TimeSeries } from '../kernel/statistics.ts';

/** Tokens of all streams as their clients see them. */
export class Recorder {
  tokens = 0;
  finished = 0;
  failed = 0;
  readonly firstMs: number[] = [];
  readonly betweenMs: number[] = [];
  readonly series: TimeSeries;
  /** Longest time between two tokens of any stream, by the bin in which it ended. */
  readonly longest: TimeSeries;

  constructor(binMs: number) {
    this.series = new TimeSeries(binMs);
    this.longest = new TimeSeries(binMs);
  }

  /** Forgets what was before, the series apart. */
  begin(): void {
    this.tokens = 0;
    this.finished = 0;
    this.failed = 0;
    this.firstMs.length = 0;
    this.betweenMs.length = 0;
  }
}

export interface StreamSinkOptions {
  recorder: Recorder;
  now: () => number;
  onFirst: () => void;
  /** Its client has a token to read. */
  onToken: () => void;
  /** Called once, when the stream has ended. */
  onEnd: () => void;
}

/** One stream's events. */
export class StreamSink implements SequenceSink {
  readonly #o: StreamSinkOptions;
  readonly #sentAtMs: number;
  #lastAtMs: number | null = null;

  constructor(options: StreamSinkOptions) {
    this.#o = options;
    this.#sentAtMs = options.now();
  }

  started(): void {}

  token(): void {
    const { recorder, now } = this.#o;
    const at = now();
    this.#o.onToken();
    recorder.tokens += 1;
    recorder.series.add(at);
    if (this.#lastAtMs === null) {
      recorder.firstMs.push(at - this.#sentAtMs);
      this.#o.onFirst();
    } else {
      recorder.betweenMs.push(at - this.#lastAtMs);
      recorder.longest.atLeast(at, at - this.#lastAtMs);
    }
    this.#lastAtMs = at;
  }

  promptLogprobs(): void {}

  finished(): void {
    this.#o.recorder.finished += 1;
    this.#o.onEnd();
  }

  moved(): void {
    this.#o.onEnd();
  }

  failed(): void {
    this.#o.recorder.failed += 1;
    this.#o.onEnd();
  }

  congested(): boolean {
    return false;
  }
}
