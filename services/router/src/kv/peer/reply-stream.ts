import type { ClientReadableStream } from '@grpc/grpc-js';
import { type Clock, fail } from '@guildhall/common';
import type { pages } from '@guildhall/proto';
import { pullFault } from './wire.ts';

export interface ReplyLimits {
  clock: Clock;
  /** Time between two messages, milliseconds; the receiver's own work does not count. */
  stallMs: number;
  /** Time of the whole call, milliseconds. */
  limitMs: number;
  signal: AbortSignal;
}

/**
 * Messages of a Fetch call as they are asked for: what is not asked for waits in the transport, which holds the sender
 * back. Errors: faults of wire.ts; `cancelled` when the signal aborts. The call is over when the iteration is.
 */
export async function* repliesOf(
  call: ClientReadableStream<pages.FetchReply>,
  limits: ReplyLimits,
): AsyncGenerator<pages.FetchReply, void, void> {
  const { clock, signal } = limits;
  let why: 'stalled' | 'late' | 'cancelled' | null = null;
  const stop = (reason: 'stalled' | 'late' | 'cancelled'): void => {
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
    const messages = call[Symbol.asyncIterator]() as AsyncIterator<pages.FetchReply>;
    for (;;) {
      const stall = clock.setTimer(limits.stallMs, () => stop('stalled'));
      const next = await messages.next().finally(() => stall.cancel());
      if (next.done === true) return;
      yield next.value;
    }
  } catch (err) {
    throw reasonOf(why, limits) ?? err;
  } finally {
    limit.cancel();
    signal.removeEventListener('abort', onAbort);
    call.cancel();
  }
}

function reasonOf(why: 'stalled' | 'late' | 'cancelled' | null, limits: ReplyLimits): Error | null {
  if (why === 'stalled') return pullFault('stalled', `nothing came for ${limits.stallMs} ms`);
  if (why === 'late') return pullFault('stalled', `the transfer took more than ${limits.limitMs} ms`);
  return why === 'cancelled' ? fail('cancelled', 'the transfer is no longer wanted') : null;
}
