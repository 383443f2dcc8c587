/** Where a span belongs, as W3C Trace Context names it. */
export interface TraceContext {
  /** 32 lower-case hex digits. */
  traceId: string;
  /** 16 lower-case hex digits. */
  spanId: string;
  sampled: boolean;
}

const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;
const NO_TRACE = '0'.repeat(32);
const NO_SPAN = '0'.repeat(16);
const SAMPLED = 1;

/**
 * Reads a `traceparent`. Null for text that is none, as the W3C recommendation tells them apart: version ff, ids of
 * zeros, and fields after the flags in version 00 make it invalid; later versions may have more fields.
 */
export function parseTraceparent(text: string | null | undefined): TraceContext | null {
  const match = TRACEPARENT.exec(text ?? '');
  if (match === null) return null;
  const [, version = '', traceId = '', spanId = '', flags = '', rest] = match;
  if (version === 'ff' || (version === '00' && rest !== undefined)) return null;
  if (traceId === NO_TRACE || spanId === NO_SPAN) return null;
  return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & SAMPLED) !== 0 };
}

/** `traceparent` of version 00, 55 characters. */
export function formatTraceparent({ traceId, spanId, sampled }: TraceContext): string {
  return `00-${traceId}-${spanId}-${sampled ? '01' : '00'}`;
}

/** Fields by which a log line is found from a trace, under the names of OpenTelemetry's log format for JSON. */
export function traceFields(traceparent: string | null | undefined): { trace_id?: string; span_id?: string } {
  const context = parseTraceparent(traceparent);
  return context === null ? {} : { trace_id: context.traceId, span_id: context.spanId };
}
