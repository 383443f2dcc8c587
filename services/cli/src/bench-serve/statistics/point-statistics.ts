import { pointLabel, type LoadPoint } from '../points.ts';
import { Distribution, type DistributionSummary } from './distribution.ts';
import { type RequestRecord, tpotMs } from './request-record.ts';
import { Sample } from './sample.ts';
import { meets, type Slo } from './slo.ts';
import { TimeBins } from './time-bins.ts';

/** Requests that reports draw as dots. */
const SAMPLE_SIZE = 2000;
/** Examples of messages kept for each kind of error. */
const EXAMPLES = 3;

/** One dot: seconds from the beginning, TTFT and E2E in milliseconds, tokens. */
export type RequestSample = [atS: number, ttftMs: number, e2eMs: number, promptTokens: number, outputTokens: number];

/** Errors of one kind. */
export interface ErrorCount {
  kind: string;
  count: number;
  examples: string[];
}

/** Everything measured at one point of a run. */
export interface PointResult {
  point: LoadPoint;
  label: string;
  /** From the first due time to the end of the last request. */
  durationS: number;
  requests: { sent: number; succeeded: number; failed: number; aborted: number };
  errors: ErrorCount[];
  tokens: {
    prompt: number;
    cached: number;
    output: number;
    countedBy: 'usage' | 'chunks' | 'both';
    perChunk: number | null;
  };
  requestsPerSecond: number;
  outputTokensPerSecond: number;
  totalTokensPerSecond: number;
  /** Requests that met the objectives, a second; null without objectives. */
  goodputPerSecond: number | null;
  /** Share of all requests, failed ones included, that met the objectives. */
  attainment: number | null;
  concurrency: { mean: number; max: number };
  ttftMs: DistributionSummary;
  itlMs: DistributionSummary;
  tpotMs: DistributionSummary;
  e2eMs: DistributionSummary;
  /** How late this client sent requests: beyond a few milliseconds it is the bottleneck, or --max-in-flight is. */
  lateMs: DistributionSummary;
  series: {
    widthS: number;
    tokens: number[];
    started: number[];
    finished: number[];
    failed: number[];
    inFlight: number[];
  };
  samples: RequestSample[];
}

/** Collects requests of one point in bounded memory. */
export class PointStatistics {
  readonly #point: LoadPoint;
  readonly #slo: Slo | null;
  readonly #startMs: number;
  readonly #bins = new TimeBins();
  readonly #samples = new Sample<RequestSample>(SAMPLE_SIZE);
  readonly #times = {
    ttft: new Distribution(),
    itl: new Distribution(),
    tpot: new Distribution(),
    e2e: new Distribution(),
    late: new Distribution(),
  };
  readonly #errors = new Map<string, ErrorCount>();
  readonly #tokens = { prompt: 0, cached: 0, output: 0, chunks: 0, counted: 0, uncounted: 0 };
  #sent = 0;
  #succeeded = 0;
  #failed = 0;
  #aborted = 0;
  #good = 0;
  #inFlight = 0;
  #mostInFlight = 0;
  #busyMs = 0;
  #endMs: number;

  constructor(point: LoadPoint, slo: Slo | null, startMs: number) {
    this.#point = point;
    this.#slo = slo;
    this.#startMs = startMs;
    this.#endMs = startMs;
  }

  /** A request is sent. */
  started(atMs: number): void {
    this.#sent++;
    this.#bins.add(atMs - this.#startMs, 'started');
    this.#level(atMs, 1);
  }

  /** A piece of text came. */
  text(atMs: number): void {
    this.#bins.add(atMs - this.#startMs, 'tokens');
  }

  /** A request has ended. */
  ended(record: RequestRecord): void {
    this.#level(record.endMs, -1);
    this.#busyMs += record.endMs - record.sentMs;
    this.#endMs = Math.max(this.#endMs, record.endMs);
    if (record.failure === 'aborted') this.#aborted++;
    else if (record.failure !== null) this.#fail(record.failure, record.endMs);
    else this.#succeed(record);
  }

  /** Numbers for a line of progress. */
  get live(): { sent: number; ended: number; failed: number; inFlight: number; output: number } {
    const ended = this.#succeeded + this.#failed + this.#aborted;
    return { sent: this.#sent, ended, failed: this.#failed, inFlight: this.#inFlight, output: this.#tokens.output };
  }

  result(): PointResult {
    const seconds = Math.max((this.#endMs - this.#startMs) / 1000, 1e-9);
    const { prompt, output } = this.#tokens;
    const judged = this.#succeeded + this.#failed;
    return {
      point: this.#point,
      label: pointLabel(this.#point),
      durationS: seconds,
      requests: { sent: this.#sent, succeeded: this.#succeeded, failed: this.#failed, aborted: this.#aborted },
      errors: [...this.#errors.values()].toSorted((a, b) => b.count - a.count),
      tokens: this.#tokenCounts(),
      requestsPerSecond: this.#succeeded / seconds,
      outputTokensPerSecond: output / seconds,
      totalTokensPerSecond: (prompt + output) / seconds,
      goodputPerSecond: this.#slo === null ? null : this.#good / seconds,
      attainment: this.#slo === null || judged === 0 ? null : this.#good / judged,
      concurrency: { mean: this.#busyMs / 1000 / seconds, max: this.#mostInFlight },
      ttftMs: this.#times.ttft.summary(),
      itlMs: this.#times.itl.summary(),
      tpotMs: this.#times.tpot.summary(),
      e2eMs: this.#times.e2e.summary(),
      lateMs: this.#times.late.summary(),
      series: this.#series(),
      samples: this.#samples.values.toSorted((a, b) => a[0] - b[0]),
    };
  }

  #level(atMs: number, change: 1 | -1): void {
    this.#inFlight += change;
    this.#mostInFlight = Math.max(this.#mostInFlight, this.#inFlight);
    this.#bins.level(atMs - this.#startMs, this.#inFlight);
    this.#bins.settle(this.#inFlight);
  }

  #fail({ kind, message }: { kind: string; message: string }, atMs: number): void {
    this.#failed++;
    this.#bins.add(atMs - this.#startMs, 'failed');
    const known = this.#errors.get(kind) ?? { kind, count: 0, examples: [] };
    known.count++;
    if (known.examples.length < EXAMPLES && !known.examples.includes(message)) known.examples.push(message);
    this.#errors.set(kind, known);
  }

  #succeed(record: RequestRecord): void {
    const { dueMs, sentMs, endMs, gapsMs } = record;
    this.#succeeded++;
    this.#bins.add(endMs - this.#startMs, 'finished');
    // An answer whose tokens have no text has none that could be timed.
    const ttft = (record.firstTokenMs ?? endMs) - dueMs;
    const tpot = tpotMs(record);
    const e2e = endMs - dueMs;
    this.#times.ttft.add(ttft);
    this.#times.e2e.add(e2e);
    this.#times.late.add(sentMs - dueMs);
    if (tpot !== null) this.#times.tpot.add(tpot);
    let longest: number | null = null;
    for (const gap of gapsMs) {
      this.#times.itl.add(gap);
      longest = Math.max(longest ?? 0, gap);
    }
    if (this.#slo !== null && meets(this.#slo, { ttft, tpot, e2e, gap: longest })) this.#good++;
    this.#count(record);
    this.#samples.add([(dueMs - this.#startMs) / 1000, ttft, e2e, record.promptTokens, record.outputTokens]);
  }

  #count({ promptTokens, cachedTokens, outputTokens, counted, chunks }: RequestRecord): void {
    this.#tokens.prompt += promptTokens;
    this.#tokens.cached += cachedTokens;
    this.#tokens.output += outputTokens;
    this.#tokens.chunks += chunks;
    this.#tokens[counted ? 'counted' : 'uncounted']++;
  }

  #tokenCounts(): PointResult['tokens'] {
    const { prompt, cached, output, chunks, counted, uncounted } = this.#tokens;
    const countedBy = uncounted === 0 ? 'usage' : counted === 0 ? 'chunks' : 'both';
    return { prompt, cached, output, countedBy, perChunk: chunks === 0 ? null : output / chunks };
  }

  #series(): PointResult['series'] {
    const { bins, widthMs } = this.#bins;
    return {
      widthS: widthMs / 1000,
      tokens: bins.map(({ tokens }) => tokens),
      started: bins.map(({ started }) => started),
      finished: bins.map(({ finished }) => finished),
      failed: bins.map(({ failed }) => failed),
      inFlight: bins.map(({ inFlight }) => inFlight),
    };
  }
}
