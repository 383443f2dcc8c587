import { createHash, randomUUID } from 'node:crypto';
import type { FastifyReply, FastifyRequest } from 'fastify';

const GIVEN_ID = /^[\w.:-]{1,128}$/;

/** The caller's X-Request-Id where it is a plain token of at most 128 characters, else a new one. */
export function requestIdOf(header: string | string[] | undefined): string {
  return typeof header === 'string' && GIVEN_ID.test(header) ? header : `req_${randomUUID().replaceAll('-', '')}`;
}

/** Id of an answer: `chatcmpl-…` or `cmpl-…`. */
export function completionId(prefix: 'chatcmpl' | 'cmpl'): string {
  return `${prefix}-${randomUUID().replaceAll('-', '')}`;
}

/** Takes the body's `request_id` over, as vLLM does, where the header is not sent. The body has passed its schema. */
export function adoptRequestId(request: FastifyRequest, reply: FastifyReply): void {
  const given = (request.body as { request_id?: unknown } | null | undefined)?.request_id;
  if (typeof given !== 'string' || !GIVEN_ID.test(given) || request.headers['x-request-id'] !== undefined) return;
  request.id = given;
  void reply.header('x-request-id', given);
}

/** Id of a tool call: the same for the same place in the same answer. */
export function toolCallId(answerId: string, choice: number, call: number): string {
  return `call_${createHash('sha256').update(`${answerId}/${choice}/${call}`).digest('hex').slice(0, 24)}`;
}
