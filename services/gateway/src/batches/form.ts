import multipart from '@fastify/multipart';
import { type ErrorCode, fail } from '@guildhall/common';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { GatewayApp } from '../routes/types.ts';
import type { Part } from './upload.ts';

/** The service has the limit; this only keeps the form's parser from having a lower one. */
const MAX_BYTES = 2 ** 40;

/** Refusals of the form's parser; what has no code is about the bytes themselves. */
const OF_PARSER: Record<string, { code: ErrorCode; message: string }> = {
  FST_PARTS_LIMIT: { code: 'invalid_value', message: 'the form has too many parts' },
  FST_FILES_LIMIT: { code: 'invalid_value', message: 'the form has more than one file' },
  FST_FIELDS_LIMIT: { code: 'invalid_value', message: 'the form has too many fields' },
  FST_PROTO_VIOLATION: { code: 'unknown_field', message: 'the form has a field of a name that is not allowed' },
  FST_INVALID_JSON_FIELD_ERROR: {
    code: 'invalid_json',
    message: 'a field of the form says that it is JSON, and is not',
  },
  FST_REQ_FILE_TOO_LARGE: { code: 'body_too_large', message: 'the file is larger than allowed' },
  FST_MP_PREMATURE_CLOSE: { code: 'cancelled', message: 'the client closed the connection' },
  ECONNRESET: { code: 'cancelled', message: 'the client closed the connection' },
};

function formError(err: unknown): unknown {
  if (!(err instanceof Error)) return err;
  const { code } = err as { code?: unknown };
  const known = OF_PARSER[String(code)];
  if (known !== undefined) return fail(known.code, known.message, { cause: err });
  // The parser throws plain errors about forms, and of other classes about itself.
  if (code !== undefined || Object.getPrototypeOf(err) !== Error.prototype) return err;
  return fail('invalid_value', `the body is no valid multipart/form-data: ${err.message}`, { cause: err });
}

/** Adds routes that take forms with one file and few fields. */
export function addFormRoutes(
  app: GatewayApp,
  most: { fields: number; parts: number },
  add: (scope: GatewayApp) => void,
): void {
  void app.register(async (scope: FastifyInstance) => {
    await scope.register(multipart, { limits: { ...most, files: 1, fieldSize: 1024, fileSize: MAX_BYTES } });
    add(scope as unknown as GatewayApp);
  });
}

/** Parts of the form that a request brings. Throws `unsupported_media_type` for any other body. */
export function partsOf(request: FastifyRequest): AsyncIterable<Part> {
  if (request.isMultipart()) return request.parts();
  throw fail('unsupported_media_type', 'send the file as multipart/form-data', { field: 'content-type' });
}

/**
 * What a parser of forms gives; what it refuses as errors of the registry. Throws `invalid_value`, `unknown_field`, `invalid_json`,
 * `body_too_large`, and `cancelled` when the client goes away.
 */
export async function* ofForm<T>(source: AsyncIterable<T>): AsyncGenerator<T> {
  try {
    yield* source;
  } catch (err) {
    throw formError(err);
  }
}
