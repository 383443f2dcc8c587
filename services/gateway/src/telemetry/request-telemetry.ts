import {
  type Attributes,
  type Clock,
  errorInfo,
  fail,
  type GuildhallError,
  type Metrics,
  type Span,
  traceFields,
  type TraceHead,
  type Tracing,
} from '@guildhall/common';
import type { FastifyRequest } from 'fastify';
import type { ChoiceDelta } from '../choice-assembler.ts';
import { ChoiceTrace } from './choice-trace.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** What is told of a completion; null for every other request. */
    telemetry: RequestTelemetry | null;
  }
}

/** `gen_ai.operation.name` of the routes that are traced. */
export const OPERATIONS: Readonly<Record<string, string>> = {
  '/v1/chat/completions': 'chat',
  '/v1/completions': 'text_completion',
  '/v1/responses': 'chat',
  '/v1/messages': 'chat',
};

const PROVIDER = 'guildhall';

export interface TelemetryDeps {
  tracing: Tracing;
  metrics: Metrics;
  clock: Clock;
}

/** What is told of the HTTP request, or of what stands in its place. */
export interface ToldRequest {
  id: string;
  method: string;
  headers: FastifyRequest['headers'];
  routeOptions: { url?: string | undefined };
}

/** What a request's body says of its sampling; never its text. */
export interface AskedParams {
  max_tokens?: number | null | undefined;
  max_completion_tokens?: number | null | undefined;
  temperature?: number | null | undefined;
  top_p?: number | null | undefined;
  top_k?: number | null | undefined;
  frequency_penalty?: number | null | undefined;
  presence_penalty?: number | null | undefined;
  seed?: number | null | undefined;
  n?: number | null | undefined;
  stream?: boolean | null | undefined;
  messages?: unknown;
  prompt?: unknown;
}

/** What came of a request. */
export interface AnswerFacts {
  responseId: string;
  promptTokens: number;
  completionTokens: number;
  cachedTokens: number;
}

/**
 * What is told of one completion request: its span from HTTP to the last byte, if it is traced, and the metrics of the
 * GenAI conventions in any case.
 */
export class RequestTelemetry {
  readonly #deps: TelemetryDeps;
  readonly #head: TraceHead;
  readonly #operation: string;
  readonly #startedMs: number;
  readonly #finishReasons: string[] = [];
  readonly #texts: string[] = [];
  #model = '';
  #errorType = '';
  #ended = false;
  #firstTokenMs: number | null = null;

  constructor(deps: TelemetryDeps, request: ToldRequest, operation: string) {
    const { traceparent, tracestate } = request.headers;
    this.#deps = deps;
    this.#operation = operation;
    this.#startedMs = deps.clock.monotonicMs();
    this.#head = deps.tracing.begin(operation, {
      parent: typeof traceparent === 'string' ? traceparent : null,
      state: typeof tracestate === 'string' ? tracestate : undefined,
      role: 'server',
      startMs: this.#startedMs,
      attributes: {
        'gen_ai.operation.name': operation,
        'gen_ai.provider.name': PROVIDER,
        'http.request.method': request.method,
        'http.route': request.routeOptions.url,
        'guildhall.request.id': request.id,
      },
    });
  }

  get span(): Span | null {
    return this.#head.span;
  }

  /** Context for routers; '' where there is none. */
  get traceparent(): string {
    return this.#head.traceparent;
  }

  /** Fields of log lines about this request. */
  get logFields(): ReturnType<typeof traceFields> {
    return traceFields(this.#head.traceparent);
  }

  /** Headers of the answer: the context of the span, where traces are made. */
  get headers(): Record<string, string> {
    return this.#deps.tracing.enabled ? { traceparent: this.#head.traceparent } : {};
  }

  /** The body was read: what is asked, of which model (a served name, so that there are few), and by whom. */
  asked(model: string, body: AskedParams, tenant: string): void {
    this.#model = model;
    const { span } = this.#head;
    if (span === null) return;
    span.rename(`${this.#operation} ${model}`);
    span.set({ ...attributesOf(body), 'gen_ai.request.model': model, 'guildhall.tenant': tenant || undefined });
    if (this.#deps.tracing.content) span.set({ 'gen_ai.input.messages': contentOf(body) });
  }

  /** Something that began at `startMs` is over. */
  record(name: string, startMs: number, attributes: Attributes): void {
    this.#head.span?.record(name, startMs, this.#deps.clock.monotonicMs(), { attributes });
  }

  /** The attempts of one choice; null when nobody traces them. */
  choice(index: number): ChoiceTrace | null {
    return this.#head.span === null ? null : new ChoiceTrace(this.#head.span, index);
  }

  /** A choice has a token after `ms`, its first one. */
  firstToken(): void {
    const { clock, metrics } = this.#deps;
    const seconds = (clock.monotonicMs() - this.#startedMs) / 1000;
    metrics.observe('gen_ai_server_time_to_first_token_seconds', seconds, this.#labels);
    if (this.#firstTokenMs !== null) return;
    this.#firstTokenMs = clock.monotonicMs();
    this.#head.span?.event('first token');
  }

  /** A choice is over: the mean time of its tokens after the first one, milliseconds. */
  tokenTime(ms: number): void {
    this.#deps.metrics.observe('gen_ai_server_time_per_output_token_seconds', ms / 1000, this.#labels);
  }

  /** A piece of a choice: text, or calls. */
  delta(index: number, { parts, finish }: ChoiceDelta): void {
    if (finish !== null) this.#finishReasons[index] = finish;
    if (!this.#deps.tracing.content || this.#head.span === null) return;
    const texts = parts.map((part) =>
      part.kind === 'call' ? (part.call.name ?? '') + part.call.arguments : part.text,
    );
    this.#texts[index] = (this.#texts[index] ?? '') + texts.join('');
  }

  answered({ responseId, promptTokens, completionTokens, cachedTokens }: AnswerFacts): void {
    const { metrics, tracing } = this.#deps;
    const usage = 'gen_ai_client_token_usage';
    metrics.observe(usage, promptTokens, { ...this.#labels, gen_ai_token_type: 'input' });
    metrics.observe(usage, completionTokens, { ...this.#labels, gen_ai_token_type: 'output' });
    const { span } = this.#head;
    if (span === null) return;
    span.set({
      'gen_ai.response.id': responseId,
      'gen_ai.response.model': this.#model,
      'gen_ai.response.finish_reasons': this.#finishReasons,
      'gen_ai.usage.input_tokens': promptTokens,
      'gen_ai.usage.output_tokens': completionTokens,
      'gen_ai.usage.cache_read.input_tokens': cachedTokens,
    });
    if (tracing.content) span.set({ 'gen_ai.output.messages': JSON.stringify(this.#texts) });
  }

  /** It ends with an error. The message stays out of the trace: it may quote the request. */
  failed({ code }: GuildhallError): void {
    this.#errorType = code;
    this.#head.span?.fail(code, errorInfo(code).summary);
  }

  /** True once the answer was sent, or nobody waits for it. */
  get ended(): boolean {
    return this.#ended;
  }

  /** The answer was sent, or else nobody waits for it any more. */
  end(status: number, sent: boolean): void {
    this.#ended = true;
    const { metrics, clock } = this.#deps;
    if (!sent && this.#errorType === '') this.failed(fail('cancelled', 'the client closed the connection'));
    const seconds = (clock.monotonicMs() - this.#startedMs) / 1000;
    const labels = { ...this.#labels, error_type: this.#errorType };
    metrics.observe('gen_ai_server_request_duration_seconds', seconds, labels);
    this.#head.span?.set({ 'http.response.status_code': status });
    this.#head.span?.end();
  }

  get #labels() {
    return {
      gen_ai_operation_name: this.#operation,
      gen_ai_provider_name: PROVIDER,
      gen_ai_request_model: this.#model,
    };
  }
}

function attributesOf(body: AskedParams): Attributes {
  return {
    'gen_ai.request.max_tokens': body.max_completion_tokens ?? body.max_tokens ?? undefined,
    'gen_ai.request.temperature': body.temperature ?? undefined,
    'gen_ai.request.top_p': body.top_p ?? undefined,
    'gen_ai.request.top_k': body.top_k ?? undefined,
    'gen_ai.request.frequency_penalty': body.frequency_penalty ?? undefined,
    'gen_ai.request.presence_penalty': body.presence_penalty ?? undefined,
    'gen_ai.request.seed': body.seed ?? undefined,
    'gen_ai.request.choice.count': body.n ?? undefined,
    'gen_ai.request.stream': body.stream ?? undefined,
  };
}

function contentOf(body: AskedParams): string {
  return JSON.stringify(body.messages ?? body.prompt ?? null);
}
