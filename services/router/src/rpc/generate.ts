import { type Clock, fail, toGrpc, toGuildhallError } from '@guildhall/common';
import type { router } from '@guildhall/proto';
import type { Engine } from '../engine.ts';
import type { Sequence } from '../sequence.ts';
import { EventStream } from './event-stream.ts';
import { type RequestLimits, toSpec } from './validate.ts';

export interface RouterRpcOptions {
  engine: Pick<Engine, 'submit' | 'cancel' | 'wake'>;
  clock: Clock;
  limits: RequestLimits;
  routerId: string;
  /** Why no request is taken now, or null. */
  notReady: () => string | null;
  info: () => router.RouterInfo;
  /** A request was refused before it became a sequence. */
  onRefused: (code: string) => void;
}

/** The Router service. A request that cannot be served costs nobody else anything: its call ends with the reason. */
export function routerRpc(options: RouterRpcOptions): router.RouterServer {
  return {
    generate: (call) => {
      const { engine, clock, limits, routerId } = options;
      const events = new EventStream({
        call,
        routerId,
        numericsId: limits.numericsId,
        onDrain: () => engine.wake(),
      });
      let seq: Sequence | null = null;
      call.on('cancelled', () => {
        if (seq !== null) engine.cancel(seq);
      });
      try {
        const reason = options.notReady();
        if (reason !== null) throw fail('not_ready', reason);
        seq = engine.submit(toSpec(call.request, limits, clock.monotonicMs()), events);
      } catch (err) {
        const error = toGuildhallError(err);
        options.onRefused(error.code);
        events.failed(error);
      }
    },
    getInfo: (_call, reply) => reply(null, options.info()),
    drain: (call) => void call.emit('error', toGrpc(fail('unsupported', 'drain'))),
  };
}
