import { parseTraceparent } from './trace-context.ts';

/** Values of attributes; undefined ones are left out. */
export type Attributes = Readonly<Record<string, string | number | boolean | readonly string[] | undefined>>;

/** Role of a span: `server` answers a call, `client` makes one, `internal` is neither. */
export type SpanRole = 'internal' | 'server' | 'client';

export interface SpanOptions {
  role?: SpanRole;
  attributes?: Attributes;
  /** `traceparent` of other spans that this one has to do with. */
  links?: readonly string[];
  /** The clock's monotonic milliseconds; by default now. */
  startMs?: number;
}

/** A span that is recorded. Whoever begins one ends it; what is left open when the process drains is ended there. */
export interface Span {
  readonly traceId: string;
  readonly spanId: string;
  /** W3C form, for what this span causes in other processes. */
  readonly traceparent: string;
  child(name: string, options?: SpanOptions): Span;
  /** A child that is over: nothing of it was open meanwhile. Times are the clock's monotonic milliseconds. */
  record(name: string, startMs: number, endMs: number, options?: Omit<SpanOptions, 'startMs'>): Span;
  rename(name: string): void;
  set(attributes: Attributes): void;
  event(name: string, attributes?: Attributes): void;
  /** It did not do what it was to do; `code` becomes `error.type`. */
  fail(code: string, message?: string): void;
  /** Ends it, once. */
  end(atMs?: number): void;
  /** Forgets it instead: there was nothing to tell. */
  discard(): void;
}

/** What a request gets when it comes in: a span if it is sampled, and the context to pass on in either case. */
export interface TraceHead {
  readonly span: Span | null;
  /** W3C form; '' where there is nothing to pass on. */
  readonly traceparent: string;
}

export interface HeadOptions extends SpanOptions {
  /** The caller's `traceparent` and `tracestate`, as they came; what is no context is passed over. */
  parent?: string | null | undefined;
  state?: string | undefined;
}

/** Traces of one process. */
export interface Tracing {
  /** False without a collector: nothing is recorded, and nothing is to be made up for it. */
  readonly enabled: boolean;
  /** Prompts and answers may be put into attributes. */
  readonly content: boolean;
  /** Share of the steps of a traced request that get spans, 0 to 1. */
  readonly stepRatio: number;
  /** Spans that are begun and not ended. */
  readonly numOpen: number;
  /** Goes on with the caller's trace, or begins one, sampled at the ratio of the configuration. */
  begin(name: string, options?: HeadOptions): TraceHead;
  /** A span of a trace that another process has decided to record; null for every other. */
  join(name: string, traceparent: string | null, options?: SpanOptions): Span | null;
  /** A trace of its own, recorded whatever the ratio: for what happens rarely. Null when off. */
  own(name: string, options?: SpanOptions): Span | null;
  /** Ends what is open, sends what is queued within a limit of time, and stops. */
  shutDown(): Promise<void>;
}

/** Records nothing. A caller's context is passed on as it came. */
export const NO_TRACING: Tracing = {
  enabled: false,
  content: false,
  stepRatio: 0,
  numOpen: 0,
  begin: (_name, options) => ({
    span: null,
    traceparent: parseTraceparent(options?.parent) === null ? '' : (options?.parent ?? ''),
  }),
  join: () => null,
  own: () => null,
  shutDown: () => Promise.resolve(),
};
