import type { ClientReadableStream } from '@grpc/grpc-js';
import type { Clock } from '../clock.ts';
import { fail } from '../errors.ts';

export interface ReplyLimits {
  clock: Clock;
  /** Time between two messages, milliseconds; the receiver's own work does not count. */
  stallMs: number;
  /** Time of the whole call, milliseconds. */
  limitMs: number;
  signal: AbortSignal;
  /** The error for a sender that is too slow. */
  stalled: (message: string) => Error;
}

type StopReason = 'stalled' | 'late' | 'cancelled';

/**
 * Messages of a streaming answer as they are asked for: what is not asked for waits in the transport, which holds the
 * sender back. The call is over when the iteration is. Errors: those of `stalled`; `cancelled` when the signal aborts.
 */
export async function* pacedReplies<T>(
  call: ClientReadableStream<T>,
  limits: ReplyLimits,
): AsyncGenerator<T, void, void> {
  const { clock, signal } = limits;
  let why: StopReason | null = null;
  const stop = (reason: StopReason): void => {
    why ??= reason;
    call.cancel();
  };
  const onAbort = (): void => stop('cancelled');
  // Errors reach the iteration too; one that comes after its end must not end the process.
  call.on('error', () => undefined);
  signal.addEventListener('abort', onAbort, { once: true });
  const limit = clock.setTimer(limits.limitMs, () => stop('late'));
  if (signal.aborted) onAbort();
  try {
    const messages = call[Symbol.asyncIterator]() as AsyncIterator<T>;
    for (;;) {
      const stall = clock.setTimer(limits.stallMs, () => stop('stalled'));
      const next = await messages.next().finally(() => stall.cancel());
      if (next.done === true) return;
      yield next.value;
    }
  } catch (err) {
    throw stopError(why, limits) ?? err;
  } finally {
    limit.cancel();
    signal.removeEventListener('abort', onAbort);
    call.cancel();
  }
}

function stopError(why: StopReason | null, { stalled, stallMs, limitMs }: ReplyLimits): Error | null {
  if (why === 'stalled') return stalled(`nothing came for ${stallMs} ms`);
  if (why === 'late') return stalled(`the transfer took more than ${limitMs} ms`);
  return why === 'cancelled' ? fail('cancelled', 'the transfer is no longer wanted') : null;
}
