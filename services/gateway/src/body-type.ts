import type { IncomingHttpHeaders } from 'node:http';
import { fail } from '@guildhall/common';
import type { FastifyReply, FastifyRequest } from 'fastify';

/** Charsets whose bytes are UTF-8. */
const CHARSETS: ReadonlySet<string> = new Set(['utf-8', 'utf8', 'us-ascii', 'ascii']);
const CHARSET = /;\s*charset\s*=\s*"?([^\s";]*)/i;

/** Content type that a route takes. */
export function acceptedType(request: FastifyRequest): string {
  return request.routeOptions.schema?.consumes?.[0] ?? 'application/json';
}

function hasBody(headers: IncomingHttpHeaders): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
}

/**
 * Refuses bodies that would be read as something else than what they say they are: compressed ones, and text that is not UTF-8. Throws
 * `unsupported_media_type` with the header as its field.
 */
export function checkBodyType(request: FastifyRequest, reply: FastifyReply): void {
  const { headers } = request;
  if (!hasBody(headers)) return;
  const encoding = headers['content-encoding']?.trim().toLowerCase() ?? '';
  if (encoding !== '' && encoding !== 'identity') {
    // RFC 9110, 12.5.3: what would be taken.
    void reply.header('accept-encoding', 'identity');
    const message = 'content-encoding: compressed bodies are not taken; send the body as it is, without this header';
    throw fail('unsupported_media_type', message, { field: 'content-encoding' });
  }
  const charset = CHARSET.exec(headers['content-type'] ?? '')?.[1];
  if (charset !== undefined && !CHARSETS.has(charset.toLowerCase())) {
    const message = 'content-type: the charset must be utf-8; send the body in UTF-8';
    throw fail('unsupported_media_type', message, { field: 'content-type' });
  }
}
