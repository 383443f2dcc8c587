import type { FinishOutput, SequenceSink } from '@guildhall/router/scheduling';
import { TimeSeries } from '../kernel/statistics.ts';

/** Tokens of all streams as their clients see them. */
export class Recorder {
  /** Times count from here on. */
  fromMs = 0;
  tokens = 0;
  promptTokens = 0;
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

  /** Forgets what was before `nowMs`, the series apart. */
  begin(nowMs: number): void {
    this.fromMs = nowMs;
    this.tokens = 0;
    this.promptTokens = 0;
    this.finished = 0;
    this.firstMs.length = 0;
    this.betweenMs.length = 0;
  }
}

export interface StreamSinkOptions {
  recorder: Recorder;
  now: () => number;
  promptTokens: number;
  /** Called once, when the stream has ended. */
  onEnd: (failed: boolean) => void;
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
    recorder.tokens += 1;
    recorder.series.add(at);
    if (this.#lastAtMs === null) recorder.firstMs.push(at - this.#sentAtMs);
    else {
      recorder.betweenMs.push(at - this.#lastAtMs);
      recorder.longest.atLeast(at, at - this.#lastAtMs);
    }
    this.#lastAtMs = at;
  }

  promptLogprobs(): void {}

  finished(output: FinishOutput): void {
    this.#o.recorder.finished += 1;
    this.#o.recorder.promptTokens += output.promptTokens;
    this.#o.onEnd(false);
  }

  moved(): void {
    this.#o.onEnd(false);
  }

  failed(): void {
    this.#o.recorder.failed += 1;
    this.#o.onEnd(true);
  }

  congested(): boolean {
    return false;
  }
}
