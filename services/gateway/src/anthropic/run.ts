import { isGuildhallError, toGuildhallError } from '@guildhall/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { type Caller } from '../caller.ts';
import { planChat, type PlannedChat } from '../chat/plan-chat.ts';
import type { ChoiceCounts, ChoiceDelta } from '../choice-assembler.ts';
import { contextLength, type GatewayContext } from '../context.ts';
import { withNames } from '../dialect-errors.ts';
import type { ChoiceSink } from '../generation.ts';
import { prepareChat } from '../prompt.ts';
import type { RequestScope } from '../request-scope.ts';
import { noteBrokenStream, runStream, startGeneration, type StreamStyle } from '../run-completion.ts';
import type { AnthropicMessage, MessagesRequest } from '../schema/anthropic.ts';
import type { NamedEvent } from '../sse.ts';
import { MessageBuilder, type MessageEvent, newMessageId } from './builder.ts';
import { anthropicAnswer } from './errors.ts';
import { chatOf, MESSAGE_FIELDS } from './translate.ts';

/** A message whose prompt is tokenized. */
export interface PlannedMessage {
  planned: PlannedChat;
  builder: MessageBuilder;
}

const NO_COUNTS: ChoiceCounts = { completionTokens: 0, reasoningTokens: 0, cachedTokens: 0, decodeCachedTokens: 0 };
const PING = 'event: ping\ndata: {"type":"ping"}\n\n';

/** Plans a message. Where the context has less room than max_tokens it gives what it has, as Anthropic's does. */
export async function planMessage(
  context: GatewayContext,
  body: MessagesRequest,
  request: FastifyRequest,
  caller: Caller,
): Promise<PlannedMessage> {
  const id = newMessageId();
  const plan = (maxTokens: number): Promise<PlannedChat> =>
    withNames(MESSAGE_FIELDS, () => planChat(context, chatOf(body, maxTokens), request, caller, id));
  let cutByContext = false;
  const planned = await plan(body.max_tokens).catch(async (err: unknown) => {
    const left = isGuildhallError(err) && err.code === 'context_length_exceeded' ? await roomOf(context, body) : 0;
    if (left <= 0) throw err;
    cutByContext = true;
    return await plan(left);
  });
  const { thinking } = body;
  const omitThinking =
    thinking !== null && thinking !== undefined && 'display' in thinking && thinking.display === 'omitted';
  const { promptTokens } = planned;
  const builder = new MessageBuilder({ id, model: body.model, promptTokens, omitThinking, cutByContext });
  return { planned, builder };
}

/** Tokens that the context has left after the prompt. */
async function roomOf(context: GatewayContext, body: MessagesRequest): Promise<number> {
  const { ids } = await prepareChat(context.assets, chatOf(body, body.max_tokens), { enough: contextLength(context) });
  return contextLength(context) - ids.length;
}

function named(events: readonly MessageEvent[]): NamedEvent[] {
  return events.map((event) => ({ name: event.type, value: event }));
}

function sinkOf(builder: MessageBuilder, tell: (events: MessageEvent[]) => Promise<void> | void): ChoiceSink {
  return {
    started: (_index: number, counts: ChoiceCounts) => tell(builder.begin(counts)),
    promptLogprobs: () => undefined,
    delta: (_index: number, delta: ChoiceDelta) => {
      const events = builder.add(delta);
      return events.length === 0 ? undefined : tell(events);
    },
  };
}

/** Runs a message and returns it whole. */
export async function messageWhole(
  context: GatewayContext,
  scope: RequestScope,
  { planned, builder }: PlannedMessage,
): Promise<AnthropicMessage> {
  const sink = sinkOf(builder, () => undefined);
  const [counts] = await startGeneration(context, scope, planned).run(planned.plans, sink);
  return builder.whole(counts ?? NO_COUNTS);
}

/** Runs a message as an event stream. What fails after the first event is an event too. */
export async function messageStream(
  context: GatewayContext,
  scope: RequestScope,
  reply: FastifyReply,
  { planned, builder }: PlannedMessage,
): Promise<void> {
  const style: StreamStyle = { keepAlive: PING, headers: { 'request-id': reply.request.id } };
  await runStream(
    context,
    scope,
    reply,
    planned.trace,
    async (stream) => {
      try {
        const sink = sinkOf(builder, (events) => stream.sendNamed(named(events)));
        const [counts] = await startGeneration(context, scope, planned).run(planned.plans, sink);
        await stream.sendNamed(named(builder.end(counts ?? NO_COUNTS)));
        stream.end();
      } catch (err) {
        if (!stream.opened && !builder.begun) throw err;
        noteBrokenStream(context.logger, reply, err);
        const { body } = anthropicAnswer(toGuildhallError(err), reply.request.id);
        stream.end([{ name: 'error', value: body }]);
      }
    },
    style,
  );
}
