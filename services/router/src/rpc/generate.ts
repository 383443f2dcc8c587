import type { ServerWritableStream } from '@grpc/grpc-js';
import { type Clock, fail, PacedCall, toGuildhallError, type Tracing } from '@guildhall/common';
import type { router } from '@guildhall/proto';
import type { Drain } from '../drain.ts';
import type { Engine } from '../engine.ts';
import type { Sequence } from '../sequence.ts';
import { SequenceTrace } from '../telemetry/sequence-trace.ts';
import { EventStream } from './event-stream.ts';
import { MAX_ID_LENGTH, type RequestLimits, toSpec } from './validate.ts';

export interface RouterRpcOptions {
  engine: Pick<Engine, 'submit' | 'cancel' | 'wake'>;
  clock: Clock;
  limits: RequestLimits;
  routerId: string;
  /** host:port under which other routers reach this one. */
  address: () => string;
  /** Why no request is taken now, or null. */
  notReady: () => string | null;
  info: () => router.RouterInfo;
  drain: Pick<Drain, 'begin' | 'progress' | 'done'>;
  tracing: Tracing;
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
        address: options.address,
        onDrain: () => engine.wake(),
      });
      let seq: Sequence | null = null;
      const trace = traceOf(call.request, options);
      call.on('cancelled', () => {
        if (seq !== null) engine.cancel(seq);
      });
      try {
        const reason = options.notReady();
        if (reason !== null) throw fail('not_ready', reason);
        seq = engine.submit(toSpec(call.request, limits, clock.monotonicMs()), events, trace);
      } catch (err) {
        const error = toGuildhallError(err);
        options.onRefused(error.code);
        trace?.failed(error);
        events.failed(error);
      }
    },
    getInfo: (_call, reply) => reply(null, options.info()),
    drain: (call) => void streamDrain(call, options),
  };
}

/** What a call is told to, if its caller traces it; one without a context is sampled here. */
function traceOf(request: router.GenerateRequest, { tracing, routerId }: RouterRpcOptions): SequenceTrace | null {
  if (!tracing.enabled) return null;
  const { span } = tracing.begin('generate', {
    parent: request.traceparent,
    role: 'server',
    attributes: {
      'rpc.system': 'grpc',
      'rpc.method': 'guildhall.v1.Router/Generate',
      'guildhall.request.id': request.requestId.slice(0, MAX_ID_LENGTH),
      'guildhall.router': routerId,
      'guildhall.choice': request.choice,
      'guildhall.tokens.before': request.generatedIds.length,
    },
  });
  const everyStep = tracing.stepRatio === 0 ? 0 : Math.max(1, Math.round(1 / tracing.stepRatio));
  return span === null ? null : new SequenceTrace(span, everyStep);
}

/** Interval of the progress messages. */
const PROGRESS_MS = 200;
/** A caller that reads none of them for so long is cut off; the drain goes on. */
const READER_LIMIT_MS = 10_000;

/** Begins the drain and tells how far it is until nothing is left. Draining goes on if the caller leaves. */
async function streamDrain(
  call: ServerWritableStream<router.DrainRequest, router.DrainProgress>,
  { drain, clock }: RouterRpcOptions,
): Promise<void> {
  const paced = new PacedCall(call, { clock, readerLimitMs: READER_LIMIT_MS });
  try {
    drain.begin(call.request.limitMs);
    while (!drain.done()) {
      await paced.write(drain.progress());
      await clock.sleep(PROGRESS_MS, paced.signal);
    }
    await paced.write(drain.progress());
    await paced.end();
  } catch (err) {
    paced.fail(err);
  }
}
