import { fail, toGuildhallError } from '@guildhall/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { GatewayContext } from './context.ts';
import { type ChoicePlan, Generation } from './generation.ts';
import { DEBUG_HEADER, RoutingTrace } from './routing/routing-trace.ts';
import type { RequestScope } from './request-scope.ts';
import { SseStream } from './sse.ts';
import type { AskedParams, RequestTelemetry } from './telemetry/request-telemetry.ts';

/** What is read of the request that a completion is for; one that runs in the background has none of its own. */
export type AskingRequest = Pick<FastifyRequest, 'headers' | 'telemetry'>;

/** How the event streams of a dialect differ. */
export interface StreamStyle {
  /** Sent when nothing was for a while; a comment by default. */
  keepAlive?: string;
  headers?: Record<string, string>;
}

/** A request whose prompts are tokenized and whose choices are planned. */
export interface PlannedRequest {
  /** Name that the client asked for. */
  modelName: string;
  /** Name that routers are asked for; null where any router will do. */
  routerModel: string | null;
  plans: ChoicePlan[];
  /** Where the choices went, for callers who asked. */
  trace: RoutingTrace | null;
  telemetry: RequestTelemetry;
  /** Id of the answer. */
  responseId: string;
}

/** The generation of a planned request, not yet running. */
export function startGeneration(context: GatewayContext, scope: RequestScope, planned: PlannedRequest): Generation {
  const { routing, guard, hold, models, clock, logger, metrics, config } = context;
  const { modelName, routerModel, trace, telemetry, responseId, plans } = planned;
  const maxTokens = plans[0]?.request.stop?.maxTokens ?? 0;
  metrics.observe('vllm:request_params_max_tokens', maxTokens, { model_name: modelName });
  return new Generation({
    routing,
    trace,
    telemetry,
    responseId,
    clock,
    logger,
    metrics,
    resumeTimeoutMs: config.resumeTimeoutMs,
    guard,
    modelName,
    routerModel,
    hold: async (signal) => {
      // While no router had been seen the name could not be checked.
      if (await hold.wait(signal)) models.resolve(modelName);
    },
    ...scope,
  });
}

/**
 * Runs `answer` with an event stream to the client. A failure before the first event is thrown, for a plain HTTP
 * answer; a later one ends the stream with an error event.
 */
export async function runStream(
  context: GatewayContext,
  scope: RequestScope,
  reply: FastifyReply,
  trace: RoutingTrace | null,
  answer: (stream: SseStream) => Promise<void>,
  style: StreamStyle = {},
): Promise<void> {
  const { clock, config, metrics, logger, inFlight } = context;
  const stream = new SseStream({
    response: reply.raw,
    onOpen: () => void reply.hijack(),
    headers: () => ({
      'x-request-id': reply.request.id,
      ...(context.inFlight.draining ? { connection: 'close' } : {}),
      ...trace?.headers(),
      ...reply.request.telemetry?.headers,
      ...style.headers,
    }),
    ...(style.keepAlive === undefined ? {} : { keepAlive: style.keepAlive }),
    clock,
    keepAliveMs: config.keepAliveMs,
    signal: scope.signal,
  });
  metrics.gauge('guildhall_http_streams', inFlight.openStream());
  try {
    await answer(stream);
  } catch (err) {
    if (!stream.opened) {
      void reply.headers(trace?.headers() ?? {});
      throw err;
    }
    noteBrokenStream(logger, reply, err);
    stream.failed(err);
  } finally {
    stream.dispose();
    metrics.gauge('guildhall_http_streams', inFlight.closeStream());
  }
}

/** Tells log and telemetry of an error that ends a stream. */
export function noteBrokenStream(logger: GatewayContext['logger'], reply: FastifyReply, err: unknown): void {
  const facts = { request: reply.request.id, ...reply.request.telemetry?.logFields };
  logger.debug({ ...facts, err }, 'stream ended with an error');
  reply.request.telemetry?.failed(toGuildhallError(err));
}

/** Runs `answer` for a plain HTTP answer. */
export async function runWhole<T>(
  reply: FastifyReply,
  trace: RoutingTrace | null,
  answer: () => Promise<T>,
): Promise<T> {
  try {
    return await answer();
  } finally {
    void reply.headers(trace?.headers() ?? {});
  }
}

/** A trace of routing, if the caller asks for one. */
export function routingTraceOf(request: AskingRequest): RoutingTrace | null {
  return RoutingTrace.of(request.headers[DEBUG_HEADER]);
}

/** What is told of a completion, now that it is known which model is asked, what, and by whom. */
export function telemetryOf(
  context: GatewayContext,
  request: AskingRequest,
  body: AskedParams & { model: string },
  tenant: string,
): RequestTelemetry {
  const { telemetry } = request;
  if (telemetry === null) throw fail('internal', 'this route is not among those that are told of');
  telemetry.asked(body.model, body, tenant);
  context.metrics.observe('vllm:request_params_n', body.n ?? 1, { model_name: body.model });
  return telemetry;
}
