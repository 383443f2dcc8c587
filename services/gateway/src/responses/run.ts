import { toGuildhallError } from '@guildhall/common';
import type { FastifyReply } from 'fastify';
import type { PlannedChat } from '../chat/plan-chat.ts';
import type { ChoiceDelta, FinishName } from '../choice-assembler.ts';
import type { GatewayContext } from '../context.ts';
import type { ChoiceSink } from '../generation.ts';
import type { RequestScope } from '../request-scope.ts';
import { noteBrokenStream, runStream, startGeneration } from '../run-completion.ts';
import type { ResponseObject } from '../schema/responses.ts';
import type { NamedEvent, SseStream } from '../sse.ts';
import type { TokenSource } from '../token-text.ts';
import { ResponseBuilder, type ResponseEnd, type ResponseEvent } from './builder.ts';
import { piecesOf } from './piece.ts';
import type { AskedResponse } from './prepare.ts';
import { keep } from './stored.ts';
import { responseError, responseUsage } from './usage.ts';

/** A response that somebody waits for. */
export interface WaitedResponse {
  asked: AskedResponse;
  planned: PlannedChat;
  tenant: string;
}

/** Events as the stream names them. */
export function namedEvents(events: readonly ResponseEvent[]): NamedEvent[] {
  return events.map((event) => ({ name: event.type, value: event }));
}

/** Builds a response as it is generated, and tells of it. */
class ResponseSink implements ChoiceSink {
  readonly builder: ResponseBuilder;
  readonly #source: TokenSource | null;
  readonly #tell: (events: ResponseEvent[]) => Promise<void> | void;
  finish: FinishName = 'stop';

  constructor(
    { asked, planned }: WaitedResponse,
    tell: (events: ResponseEvent[]) => Promise<void> | void = () => undefined,
  ) {
    this.builder = new ResponseBuilder(asked.builder);
    this.#source = planned.options.logprobs ? planned.options.source : null;
    this.#tell = tell;
  }

  async started(): Promise<void> {
    await this.#tell(this.builder.begin());
  }

  promptLogprobs(): void {}

  async delta(_index: number, delta: ChoiceDelta): Promise<void> {
    this.finish = delta.finish ?? this.finish;
    const events = piecesOf(delta, this.#source).flatMap((piece) => this.builder.add(piece));
    if (events.length > 0) await this.#tell(events);
  }
}

/** How a response ended whose choice ended in such a way. */
export function statusOf(finish: FinishName): 'completed' | 'incomplete' {
  return finish === 'length' ? 'incomplete' : 'completed';
}

/** Runs a response to its end and keeps it, if that is wanted. @returns the last events. */
async function generate(
  context: GatewayContext,
  scope: RequestScope,
  waited: WaitedResponse,
  sink: ResponseSink,
): Promise<ResponseEvent[]> {
  const { planned } = waited;
  const counts = await startGeneration(context, scope, planned).run(planned.plans, sink);
  const usage = responseUsage(planned.promptTokens, counts);
  return await end(context, waited, sink.builder, { status: statusOf(sink.finish), usage, error: null });
}

async function end(
  context: GatewayContext,
  { asked, tenant }: WaitedResponse,
  builder: ResponseBuilder,
  how: Omit<ResponseEnd, 'atS'>,
): Promise<ResponseEvent[]> {
  const events = builder.end({ ...how, atS: Math.floor(context.clock.nowMs() / 1000) });
  const response = builder.snapshot();
  if (!response.store) return events;
  // It is kept before anybody hears that it is over, and may ask for it.
  if (await keep(context, tenant, response, asked.builder, asked.input)) return events;
  return events.map((event) => ('response' in event ? { ...event, response: { ...response, store: false } } : event));
}

/** Runs a response and returns it whole. */
export async function respondWhole(
  context: GatewayContext,
  scope: RequestScope,
  waited: WaitedResponse,
): Promise<ResponseObject> {
  const last = (await generate(context, scope, waited, new ResponseSink(waited))).at(-1);
  return last?.['response'] as ResponseObject;
}

/** Runs a response as an event stream. What fails after the first event is an event too. */
export async function respondStream(
  context: GatewayContext,
  scope: RequestScope,
  reply: FastifyReply,
  waited: WaitedResponse,
): Promise<void> {
  const run = async (stream: SseStream): Promise<void> => {
    const sink = new ResponseSink(waited, (events) => stream.sendNamed(namedEvents(events)));
    try {
      await stream.sendNamed(namedEvents(await generate(context, scope, waited, sink)));
      stream.end();
    } catch (err) {
      if (!stream.opened && !sink.builder.begun) throw err;
      noteBrokenStream(context.logger, reply, err);
      const error = toGuildhallError(err);
      const status = error.code === 'cancelled' ? 'cancelled' : 'failed';
      const how = { status, usage: null, error: status === 'failed' ? responseError(error) : null } as const;
      stream.end(namedEvents(await end(context, waited, sink.builder, how)));
    }
  };
  await runStream(context, scope, reply, waited.planned.trace, run);
}
