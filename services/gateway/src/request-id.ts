import { randomUUID } from 'node:crypto';

const GIVEN_ID = /^[\w.:-]{1,128}$/;

/** The caller's X-Request-Id where it is a plain token of at most 128 characters, else a new one. */
export function requestIdOf(header: string | string[] | undefined): string {
  return typeof header === 'string' && GIVEN_ID.test(header) ? header : `req_${randomUUID().replaceAll('-', '')}`;
}

/** Id of an answer: `chatcmpl-…` or `cmpl-…`. */
export function completionId(prefix: 'chatcmpl' | 'cmpl'): string {
  return `${prefix}-${randomUUID().replaceAll('-', '')}`;
}
