import type { ServerWritableStream } from '@grpc/grpc-js';
import { type Clock, fail, PacedCall, toGuildhallError, type Tracing } from '@guildhall/common';
import type { router } from '@guildhall/proto';
import type { Drain } from '../drain.ts';
import type { Engine } from '../engine.ts';
import type { ConstraintSpec, Grammars } from '../grammar/grammars.ts';
import type { Sequence, SequenceSpec } from '../sequence.ts';
import { SequenceTrace } from '../telemetry/sequence-trace.ts';
import { EventStream } from './event-stream.ts';
import { constraintOf, MAX_ID_LENGTH, type RequestLimits, toSpec } from './validate.ts';

export interface RouterRpcOptions {
  engine: Pick<Engine, 'submit' | 'cancel' | 'wake'>;
  clock: Clock;
  limits: RequestLimits;
  /** Null where the checkpoint has no tokenizer. */
  grammars: Pick<Grammars, 'prepare'> | null;
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
      let cancelled = false;
      const trace = traceOf(call.request, options);
      call.on('cancelled', () => {
        cancelled = true;
        if (seq !== null) engine.cancel(seq);
      });
      const refuse = (err: unknown): void => {
        const error = toGuildhallError(err);
        options.onRefused(error.code);
        trace?.failed(error);
        events.failed(error);
      };
      const submit = (spec: SequenceSpec): void => {
        const reason = options.notReady();
        if (reason !== null) throw fail('not_ready', reason);
        seq = engine.submit(spec, events, trace);
      };
      try {
        const reason = options.notReady();
        if (reason !== null) throw fail('not_ready', reason);
        const spec = toSpec(call.request, limits, clock.monotonicMs());
        const constraint = constraintOf(call.request, spec.stop);
        if (constraint === null) return submit(spec);
        withGrammar(spec, options.grammars, constraint, submit, () => cancelled).catch(refuse);
      } catch (err) {
        refuse(err);
      }
    },
    getInfo: (_call, reply) => reply(null, options.info()),
    drain: (call) => void streamDrain(call, options),
  };
}

/** Submits a request once its grammar is compiled, unless its caller has gone meanwhile. */
async function withGrammar(
  spec: SequenceSpec,
  grammars: RouterRpcOptions['grammars'],
  constraint: ConstraintSpec,
  submit: (spec: SequenceSpec) => void,
  gone: () => boolean,
): Promise<void> {
  if (grammars === null) {
    const message = 'structured answers need a tokenizer, which the checkpoint lacks';
    throw fail('unsupported', message, { field: 'constraint' });
  }
  const grammar = await grammars.prepare(constraint);
  if (gone()) return grammar.release();
  try {
    submit({ ...spec, grammar });
  } catch (err) {
    grammar.release();
    throw err;
  }
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
