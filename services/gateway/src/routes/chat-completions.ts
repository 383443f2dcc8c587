import type { FastifyReply, FastifyRequest } from 'fastify';
import { type ChatAnswerOptions, ChatCollector, ChatStreamer } from '../answers/chat-answer.ts';
import { callerOf } from '../caller.ts';
import { contextLength, type GatewayContext } from '../context.ts';
import { planChoices } from '../plan.ts';
import { prepareChat, tokenBudget } from '../prompt.ts';
import { completionId } from '../request-id.ts';
import { type RequestScope, withRequestScope } from '../request-scope.ts';
import {
  type PlannedRequest,
  routingTraceOf,
  runStream,
  runWhole,
  startGeneration,
  telemetryOf,
} from '../run-completion.ts';
import { chatChunk, type ChatRequest, chatRequest, type ChatResponse, chatResponse } from '../schema/chat.ts';
import { errorResponse } from '../schema/error.ts';
import type { GatewayApp } from './types.ts';

interface PlannedChat extends PlannedRequest {
  promptTokens: number;
  options: Omit<ChatAnswerOptions, 'fingerprint'>;
}

async function planChat(context: GatewayContext, body: ChatRequest, request: FastifyRequest): Promise<PlannedChat> {
  const { assets, config, clock, parser, models } = context;
  const routerModel = models.resolve(body.model);
  const caller = callerOf(context, request.headers);
  const telemetry = telemetryOf(context, request, body, caller.tenant);
  const begunMs = clock.monotonicMs();
  const prompt = await prepareChat(assets, body);
  telemetry.record('tokenize', begunMs, { 'guildhall.tokens': prompt.ids.length });
  const asked = body.max_completion_tokens ?? body.max_tokens ?? null;
  const maxTokens = tokenBudget(prompt.ids.length, asked, config.defaultMaxTokens, contextLength(context), 'messages');
  const id = completionId('chatcmpl');
  const logprobs = body.logprobs === true;
  const input = {
    id,
    body,
    parser,
    topLogprobs: logprobs ? (body.top_logprobs ?? 0) : -1,
    promptLogprobs: false,
    traceparent: telemetry.traceparent,
    caller,
  };
  return {
    modelName: body.model,
    routerModel,
    trace: routingTraceOf(request),
    telemetry,
    responseId: id,
    plans: planChoices(context, input, [{ ...prompt, maxTokens }]),
    promptTokens: prompt.ids.length,
    options: {
      head: { id, created: Math.floor(clock.nowMs() / 1000), model: body.model },
      source: assets.tokenizer,
      logprobs,
    },
  };
}

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
        const planned = await planChat(context, request.body, request);
        if (request.body.stream !== true)
          return runWhole(reply, planned.trace, () => answerWhole(context, scope, planned));
        await answerStream(context, scope, reply, planned, request.body.stream_options?.include_usage === true);
        return reply;
      }),
  );
}
