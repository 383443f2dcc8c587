import type { Metadata } from '@grpc/grpc-js';
import { toGuildhallError } from '@guildhall/common';
import type { router } from '@guildhall/proto';

/**
 * One Generate call as an async iterable. Events are pulled: while the consumer waits, HTTP/2 flow control stops the
 * router, so nothing piles up here. Leaving the loop, or the signal, cancels the call at once; but a call whose
 * sequence was moved ends by itself, since a cancel would give up what its router has parked. Throws what gRPC reports, or
 * the signal's reason.
 */
export async function* generateOnce(
  client: router.RouterClient,
  request: router.GenerateRequest,
  metadata: Metadata,
  signal: AbortSignal,
): AsyncGenerator<router.GenerateEvent, void, undefined> {
  signal.throwIfAborted();
  const call = client.generate(request, metadata);
  // After a cancel nobody iterates any more, and an unheard 'error' event would end the process.
  call.on('error', () => undefined);
  const cancel = (): void => call.cancel();
  signal.addEventListener('abort', cancel, { once: true });
  let moved = false;
  try {
    for await (const message of call) {
      const event = message as router.GenerateEvent;
      moved = event.event?.$case === 'moved';
      yield event;
    }
  } catch (err) {
    if (signal.aborted) throw toGuildhallError(signal.reason);
    throw err;
  } finally {
    signal.removeEventListener('abort', cancel);
    if (!moved) call.cancel();
  }
}
