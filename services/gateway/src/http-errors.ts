import type { Socket } from 'node:net';
import {
  type ErrorCode,
  fail,
  type GuildhallError,
  isGuildhallError,
  toGuildhallError,
  toHttp,
} from '@guildhall/common';
import type { ConnectionError, FastifyReply, FastifyRequest } from 'fastify';
import { anthropicAnswer, speaksAnthropic } from './anthropic/errors.ts';
import { acceptedType } from './body-type.ts';
import type { GatewayContext } from './context.ts';
import { REASON_HEADER, reasonOf } from './limits/reasons.ts';
import { requestIdOf } from './request-id.ts';

const RETRY_AFTER_S = 1;

/** Fastify's own refusals of a request. */
const OF_FASTIFY: Record<string, ErrorCode> = {
  FST_ERR_CTP_INVALID_JSON_BODY: 'invalid_json',
  FST_ERR_CTP_EMPTY_JSON_BODY: 'invalid_json',
  FST_ERR_CTP_BODY_TOO_LARGE: 'body_too_large',
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: 'invalid_value',
  FST_ERR_BAD_URL: 'not_found',
  FST_ERR_MAX_PARAM_LENGTH: 'not_found',
};

/** Turns what a handler, a hook or Fastify itself threw into an error of the registry. */
function knownError(err: unknown, request: FastifyRequest, bodyLimitBytes: number): GuildhallError {
  if (isGuildhallError(err) || !(err instanceof Error)) return toGuildhallError(err);
  const { code, statusCode } = err as { code?: unknown; statusCode?: unknown };
  if (err === request.raw.errored) return fail('cancelled', 'the client closed the connection', { cause: err });
  if (code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE') {
    const message = `the body is of another type than this route takes: send Content-Type: ${acceptedType(request)}`;
    return fail('unsupported_media_type', message, { field: 'content-type', cause: err });
  }
  const known = OF_FASTIFY[String(code)];
  if (known === 'body_too_large') return fail(known, `the body is larger than ${bodyLimitBytes} bytes`, { cause: err });
  if (known !== undefined) return fail(known, err.message, { cause: err });
  if (err instanceof SyntaxError && statusCode === 400)
    return fail('invalid_json', `the body is not valid JSON: ${err.message}`, { cause: err });
  return toGuildhallError(err);
}

/** An error in the shape of the API that was asked. */
function answerOf(request: FastifyRequest, error: GuildhallError): { status: number; body: unknown } {
  return speaksAnthropic(request.url) ? anthropicAnswer(error, request.id) : toHttp(error);
}

/** Answers with an error, in OpenAI's shape but for Anthropic's routes. */
export function sendError(
  context: GatewayContext,
  request: FastifyRequest,
  reply: FastifyReply,
  err: unknown,
): FastifyReply {
  const error = knownError(err, request, context.config.bodyLimitBytes);
  const { status, body } = answerOf(request, error);
  context.metrics.count('guildhall_errors_total', { code: error.code });
  request.telemetry?.failed(error);
  logFailure(context, request, error, status);
  // What the framework refuses by itself has seen no hook.
  void reply.header('x-request-id', request.id);
  if (speaksAnthropic(request.url)) void reply.header('request-id', request.id);
  if (status === 401) void reply.header('www-authenticate', 'Bearer');
  const reason = reasonOf(error, context.inFlight.draining);
  if (reason !== null) void reply.header(REASON_HEADER, reason);
  if (reason !== null) context.metrics.count('guildhall_refusals_total', { reason });
  const { retryAfterS } = error.details;
  if (typeof retryAfterS === 'number') void reply.header('retry-after', String(retryAfterS));
  else if (retryAfterS !== null && (status === 429 || status === 503 || status === 529))
    void reply.header('retry-after', String(RETRY_AFTER_S));
  dropRest(request);
  return reply.code(status).type('application/json').send(body);
}

/**
 * A client that is still sending may not read the answer, and its next request on the connection comes behind what it sends: that is thrown
 * away. Whoever has begun to read it, such as the parser of a form, reads no further.
 */
function dropRest({ raw }: FastifyRequest): void {
  if (raw.complete) return;
  raw.unpipe();
  raw.resume();
}

function logFailure(context: GatewayContext, request: FastifyRequest, error: GuildhallError, status: number): void {
  const facts = { request: request.id, ...request.telemetry?.logFields, code: error.code };
  if (status === 500) context.logger.error({ ...facts, err: error.cause ?? error }, 'request failed');
  else if (status > 500) context.logger.warn({ ...facts, reason: error.message }, 'request failed');
  else context.logger.debug(facts, 'request refused');
}

const PARSE_FAILURES: Record<string, { status: string; message: string }> = {
  HPE_HEADER_OVERFLOW: {
    status: '431 Request Header Fields Too Large',
    message: 'the URL or the headers are too large',
  },
  ERR_HTTP_REQUEST_TIMEOUT: { status: '408 Request Timeout', message: 'the request did not arrive in time' },
};

/** Answers what is no HTTP request at all, before there is a request object. */
export function onClientError(err: ConnectionError, socket: Socket): void {
  if (err.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const failure = PARSE_FAILURES[err.code] ?? {
    status: '400 Bad Request',
    message: 'this is not a valid HTTP request',
  };
  const body = JSON.stringify(toHttp(fail('invalid_value', failure.message)).body);
  const head = [
    `HTTP/1.1 ${failure.status}`,
    `x-request-id: ${requestIdOf(undefined)}`,
    'content-type: application/json',
    `content-length: ${Buffer.byteLength(body)}`,
    'connection: close',
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${body}`);
}
