import { type Context, type Span as SdkSpan, TraceFlags } from '@opentelemetry/api';
import { TraceState } from '@opentelemetry/core';
import { TracerProvider } from '@opentelemetry/sdk-trace';
import type { Logger } from '../../logger.ts';
import { VERSION } from '../../version.ts';
import type { OpenTracingOptions } from '../open-tracing.ts';
import type { TraceTarget } from '../telemetry-options.ts';
import { formatTraceparent } from '../trace-context.ts';
import type { HeadOptions, Span, SpanOptions, TraceHead, Tracing } from '../tracing.ts';
import { openExporter } from './exporter.ts';
import { contextOf, RecordedSpan, remoteContext, sdkOptions, type SpanHome } from './recorded-span.ts';
import { makeResource } from './resource.ts';
import { alwaysSampled, makeSampler } from './sampler.ts';
import { SpanQueue } from './span-queue.ts';

/** Spans that wait for the collector: some 10 MB. */
const MAX_QUEUED = 8192;
const BATCH = 128;
const DELAY_MS = 1000;
const MAX_BACK_OFF_MS = 30_000;
const EXPORT_TIMEOUT_MS = 5000;
/** Time for what is queued when the process ends. */
const LAST_EXPORT_MS = 2000;
/** What a span may carry. Prompts and answers, where they are wanted, may be longer. */
const LIMITS = {
  attributeCountLimit: 64,
  attributeValueLengthLimit: 1024,
  eventCountLimit: 64,
  linkCountLimit: 128,
  attributePerEventCountLimit: 16,
  attributePerLinkCountLimit: 4,
};
const CONTENT_LENGTH = 32 << 10;

/** Traces by OpenTelemetry's SDK. Contexts are given from hand to hand, so that there is no context manager to pay for. */
export class SdkTracing implements Tracing {
  readonly enabled = true;
  readonly content: boolean;
  readonly stepRatio: number;
  readonly #home: SpanHome;
  readonly #provider: TracerProvider;
  readonly #queue: SpanQueue;

  /** Use `open`, which loads the exporter. */
  private constructor(options: OpenTracingOptions, target: TraceTarget, queue: SpanQueue) {
    const { config, service, id, clock, metrics } = options;
    this.content = config.traceContent;
    this.stepRatio = config.traceStepRatio;
    this.#queue = queue;
    this.#provider = new TracerProvider({
      resource: makeResource(service, id, config),
      sampler: makeSampler(target.ratio),
      spanLimits: { ...LIMITS, ...(config.traceContent ? { attributeValueLengthLimit: CONTENT_LENGTH } : {}) },
      spanProcessors: [queue],
    });
    this.#home = { tracer: this.#provider.getTracer('guildhall', VERSION), clock, open: new Set() };
    metrics.beforeRender(() => metrics.gauge('guildhall_trace_spans_open', this.numOpen));
  }

  /** Loads the exporter; the collector is connected to with the first span. */
  static async open(options: OpenTracingOptions, target: TraceTarget): Promise<SdkTracing> {
    const { clock, metrics, logger } = options;
    const queue = new SpanQueue({
      exporter: await openExporter(target, EXPORT_TIMEOUT_MS),
      clock,
      maxQueued: MAX_QUEUED,
      batch: BATCH,
      delayMs: DELAY_MS,
      maxBackOffMs: MAX_BACK_OFF_MS,
      onExported: (spans) => metrics.count('guildhall_trace_spans_exported_total', {}, spans),
      onDropped: (reason, spans) => metrics.count('guildhall_trace_spans_dropped_total', { reason }, spans),
      onState: (problem) => tellState(logger, target, problem),
    });
    logger.info({ url: target.url, protocol: target.protocol, ratio: target.ratio }, 'traces are sent');
    return new SdkTracing(options, target, queue);
  }

  get numOpen(): number {
    return this.#home.open.size;
  }

  begin(name: string, options: HeadOptions = {}): TraceHead {
    const parent = remoteContext(options.parent);
    if (parent !== null && options.state !== undefined) parent.traceState = new TraceState(options.state);
    return this.#start(name, options, contextOf(parent));
  }

  join(name: string, traceparent: string | null, options: SpanOptions = {}): Span | null {
    const parent = remoteContext(traceparent);
    if (parent === null || (parent.traceFlags & TraceFlags.SAMPLED) === 0) return null;
    return this.#start(name, options, contextOf(parent)).span;
  }

  own(name: string, options: SpanOptions = {}): Span | null {
    return this.#start(name, options, alwaysSampled(contextOf(null))).span;
  }

  async shutDown(): Promise<void> {
    for (const span of this.#home.open) {
      span.fail('cancelled', 'the process ended before this did');
      span.end();
    }
    const { clock } = this.#home;
    const limit = new AbortController();
    const late = clock.sleep(LAST_EXPORT_MS, limit.signal).then(
      () => this.#queue.abandon(),
      () => undefined,
    );
    await Promise.race([this.#provider.shutdown(), late]);
    limit.abort();
  }

  #start(name: string, options: SpanOptions, context: Context): TraceHead {
    const { tracer, clock } = this.#home;
    const nowMs = clock.monotonicMs();
    const epochMs = clock.nowMs() - nowMs;
    const sdk = tracer.startSpan(name, sdkOptions(options, (options.startMs ?? nowMs) + epochMs), context);
    return headOf(this.#home, sdk, epochMs);
  }
}

function headOf(home: SpanHome, sdk: SdkSpan, epochMs: number): TraceHead {
  if (sdk.isRecording()) {
    const span = new RecordedSpan(home, sdk, epochMs);
    return { span, traceparent: span.traceparent };
  }
  const { traceId, spanId } = sdk.spanContext();
  return { span: null, traceparent: formatTraceparent({ traceId, spanId, sampled: false }) };
}

function tellState(logger: Logger, { url }: TraceTarget, problem: string | null): void {
  if (problem === null) logger.info({ url }, 'the collector takes traces again');
  else logger.warn({ url, reason: problem }, 'the collector does not take traces; they are dropped');
}
