import type { FastifyReply } from 'fastify';
import { ChatCollector, ChatStreamer } from '../answers/chat-answer.ts';
import { callerOf } from '../caller.ts';
import { type PlannedChat, planChat } from '../chat/plan-chat.ts';
import type { GatewayContext } from '../context.ts';
import { type RequestScope, withRequestScope } from '../request-scope.ts';
import { runStream, runWhole, startGeneration } from '../run-completion.ts';
import { chatChunk, chatRequest, type ChatResponse, chatResponse } from '../schema/chat.ts';
import { errorResponse } from '../schema/error.ts';
import type { GatewayApp } from './types.ts';

async function answerWhole(context: GatewayContext, scope: RequestScope, planned: PlannedChat): Promise<ChatResponse> {
  const { options, plans, promptTokens } = planned;
  const generation = startGeneration(context, scope, planned);
  const collector = new ChatCollector({ ...options, fingerprint: () => generation.fingerprint }, plans.length);
  const counts = await generation.run(plans, collector);
  return collector.answer(promptTokens, counts);
}

async function answerStream(
  context: GatewayContext,
  scope: RequestScope,
  reply: FastifyReply,
  planned: PlannedChat,
  includeUsage: boolean,
): Promise<void> {
  const { options, plans, promptTokens } = planned;
  const generation = startGeneration(context, scope, planned);
  await runStream(context, scope, reply, planned.trace, async (stream) => {
    const streamer = new ChatStreamer({ ...options, fingerprint: () => generation.fingerprint }, stream, includeUsage);
    const counts = await generation.run(plans, streamer);
    await streamer.finish(promptTokens, counts);
  });
}

/** POST /v1/chat/completions. */
export function chatCompletionsRoute(app: GatewayApp, context: GatewayContext): void {
  app.post(
    '/v1/chat/completions',
    {
      schema: {
        summary: 'Chat completion',
        body: chatRequest,
        response: {
          200: {
            description: 'The answer; an event stream when `stream` is true.',
            content: { 'application/json': { schema: chatResponse }, 'text/event-stream': { schema: chatChunk } },
          },
          default: errorResponse,
        },
      },
    },
    (request, reply) =>
      withRequestScope(context, reply, request.body.model, async (scope) => {
        const planned = await planChat(context, request.body, request, callerOf(context, request.headers));
        if (request.body.stream !== true)
          return runWhole(reply, planned.trace, () => answerWhole(context, scope, planned));
        await answerStream(context, scope, reply, planned, request.body.stream_options?.include_usage === true);
        return reply;
      }),
  );
}
