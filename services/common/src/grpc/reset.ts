import { constants, type ServerHttp2Stream } from 'node:http2';
import type { ServerWritableStream } from '@grpc/grpc-js';

/** Private members of grpc-js 1.14.7: interceptors wrap the call that owns the HTTP/2 stream. */
interface CallInternals {
  call?: CallInternals;
  nextCall?: CallInternals;
  stream?: ServerHttp2Stream;
}

/**
 * Breaks a call off at once with RST_STREAM. A status would wait behind what was written before it, for ever if the
 * reader has stopped. True if the stream was found.
 */
export function resetServerCall(call: ServerWritableStream<unknown, unknown>): boolean {
  let at = (call as unknown as CallInternals).call;
  while (at?.nextCall !== undefined) at = at.nextCall;
  if (at?.stream === undefined) return false;
  at.stream.close(constants.NGHTTP2_CANCEL);
  return true;
}
