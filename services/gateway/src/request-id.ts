import { randomUUID } from 'node:crypto';

const GIVEN_ID = /^[\w.:-]{1,128}$/;
const TRACEPARENT = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$/;

/** The caller's X-Request-Id where it is a plain token of at most 128 characters, else a new one. */
export function requestIdOf(header: string | string[] | undefined): string {
  return typeof header === 'string' && GIVEN_ID.test(header) ? header : `req_${randomUUID().replaceAll('-', '')}`;
}

/** The caller's W3C traceparent, or ''. */
export function traceparentOf(header: string | string[] | undefined): string {
  return typeof header === 'string' && TRACEPARENT.test(header) ? header : '';
}

/** Id of an answer: `chatcmpl-…` or `cmpl-…`. */
export function completionId(prefix: 'chatcmpl' | 'cmpl'): string {
  return `${prefix}-${randomUUID().replaceAll('-', '')}`;
}
