import {
  type AttributeValue,
  type Context,
  type Link,
  ROOT_CONTEXT,
  type Span as SdkSpan,
  type SpanContext,
  SpanKind,
  SpanStatusCode,
  trace,
  TraceFlags,
  type Tracer,
} from '@opentelemetry/api';
import type { Clock } from '../../clock.ts';
import { formatTraceparent, parseTraceparent } from '../trace-context.ts';
import type { Attributes, Span, SpanOptions, SpanRole } from '../tracing.ts';

const KINDS: Record<SpanRole, SpanKind> = {
  internal: SpanKind.INTERNAL,
  server: SpanKind.SERVER,
  client: SpanKind.CLIENT,
};

/** What the spans of a process share. */
export interface SpanHome {
  tracer: Tracer;
  clock: Clock;
  /** Spans that are begun and not ended. */
  open: Set<RecordedSpan>;
}

/** A span of the SDK whose times come from the injected clock. */
export class RecordedSpan implements Span {
  readonly traceId: string;
  readonly spanId: string;
  readonly #home: SpanHome;
  readonly #sdk: SdkSpan;
  /** From the clock's monotonic milliseconds to those since the epoch; one for a whole tree, so that it stays in order. */
  readonly #epochMs: number;

  constructor(home: SpanHome, sdk: SdkSpan, epochMs: number) {
    const { traceId, spanId } = sdk.spanContext();
    this.traceId = traceId;
    this.spanId = spanId;
    this.#home = home;
    this.#sdk = sdk;
    this.#epochMs = epochMs;
    home.open.add(this);
  }

  get traceparent(): string {
    return formatTraceparent({ traceId: this.traceId, spanId: this.spanId, sampled: true });
  }

  child(name: string, options: SpanOptions = {}): Span {
    const { tracer, clock } = this.#home;
    const context = trace.setSpan(ROOT_CONTEXT, this.#sdk);
    const startMs = options.startMs ?? clock.monotonicMs();
    const sdk = tracer.startSpan(name, sdkOptions(options, startMs + this.#epochMs), context);
    return new RecordedSpan(this.#home, sdk, this.#epochMs);
  }

  record(name: string, startMs: number, endMs: number, options: Omit<SpanOptions, 'startMs'> = {}): Span {
    const span = this.child(name, { ...options, startMs });
    span.end(Math.max(startMs, endMs));
    return span;
  }

  rename(name: string): void {
    this.#sdk.updateName(name);
  }

  set(attributes: Attributes): void {
    for (const [name, value] of Object.entries(attributes))
      if (value !== undefined) this.#sdk.setAttribute(name, value as AttributeValue);
  }

  event(name: string, attributes?: Attributes): void {
    this.#sdk.addEvent(name, attributes as never, this.#home.clock.monotonicMs() + this.#epochMs);
  }

  fail(code: string, message?: string): void {
    this.#sdk.setAttribute('error.type', code);
    this.#sdk.setStatus({ code: SpanStatusCode.ERROR, ...(message === undefined ? {} : { message }) });
  }

  discard(): void {
    this.#home.open.delete(this);
  }

  end(atMs?: number): void {
    if (!this.#home.open.delete(this)) return;
    this.#sdk.end((atMs ?? this.#home.clock.monotonicMs()) + this.#epochMs);
  }
}

/** Options of a span as the SDK takes them; `startMs` since the epoch. */
export function sdkOptions(options: SpanOptions, startMs: number) {
  const links = options.links?.map(linkOf).filter((link) => link !== null) ?? [];
  return {
    kind: KINDS[options.role ?? 'internal'],
    startTime: startMs,
    ...(options.attributes === undefined ? {} : { attributes: options.attributes as Record<string, AttributeValue> }),
    ...(links.length === 0 ? {} : { links }),
  };
}

function linkOf(traceparent: string): Link | null {
  const context = remoteContext(traceparent);
  return context === null ? null : { context };
}

/** The context that a `traceparent` names, as another process's; null for none. */
export function remoteContext(traceparent: string | null | undefined): SpanContext | null {
  const context = parseTraceparent(traceparent);
  if (context === null) return null;
  const { traceId, spanId, sampled } = context;
  return { traceId, spanId, traceFlags: sampled ? TraceFlags.SAMPLED : TraceFlags.NONE, isRemote: true };
}

/** Where a span of that parent belongs. */
export function contextOf(parent: SpanContext | null): Context {
  return parent === null ? ROOT_CONTEXT : trace.setSpanContext(ROOT_CONTEXT, parent);
}
