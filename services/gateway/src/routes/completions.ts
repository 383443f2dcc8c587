import type { FastifyReply, FastifyRequest } from 'fastify';
import {
  CompletionCollector,
  type CompletionAnswerOptions,
  CompletionStreamer,
  type EchoedPrompt,
} from '../answers/completion-answer.ts';
import { answerHead } from '../answers/chat-answer.ts';
import { checkPromptLogprobs, ID_SOURCE, promptFacts } from '../answers/token-facts.ts';
import { callerOf } from '../caller.ts';
import { contextLength, type GatewayContext } from '../context.ts';
import { planChoices, type PlannedPrompt } from '../plan.ts';
import { preparePrompt, tokenBudget } from '../prompt.ts';
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
import {
  type CompletionRequest,
  completionRequest,
  type CompletionResponse,
  completionResponse,
} from '../schema/completion.ts';
import { errorResponse } from '../schema/error.ts';
import { type Prompt, promptList } from '../schema/prompt.ts';
import type { GatewayApp } from './types.ts';

/** Tokens of a text completion that asks for no number, as OpenAI has it. */
export const DEFAULT_MAX_TOKENS = 16;
interface PlannedCompletion extends PlannedRequest {
  promptTokens: number[];
  options: Omit<CompletionAnswerOptions, 'fingerprint'>;
}

async function planPrompts(
  context: GatewayContext,
  body: CompletionRequest,
  gone: () => boolean,
): Promise<PlannedPrompt[]> {
  const length = contextLength(context);
  const prompts: PlannedPrompt[] = [];
  for (const prompt of promptList(body.prompt)) {
    const prepared = await preparePrompt(context.assets, prompt, { enough: length, gone });
    const maxTokens = tokenBudget(prepared, body.max_tokens ?? null, DEFAULT_MAX_TOKENS, length, 'prompt');
    if (body.echo === true) checkPromptLogprobs(prepared.ids.length, body.logprobs ?? null, 'logprobs');
    checkPromptLogprobs(prepared.ids.length, body.prompt_logprobs ?? null, 'prompt_logprobs');
    prompts.push({ ...prepared, maxTokens });
  }
  return prompts;
}

function echoes(
  context: GatewayContext,
  prompts: readonly Prompt[],
  planned: readonly PlannedPrompt[],
  choices: number,
): EchoedPrompt[] {
  return prompts.flatMap((prompt, i) => {
    const ids = planned[i]?.ids ?? [];
    const text = typeof prompt === 'string' ? prompt : context.assets.tokenizer.decode(ids, { skipSpecial: false });
    return Array.from({ length: choices }, () => ({ ids, text }));
  });
}

async function planCompletion(
  context: GatewayContext,
  body: CompletionRequest,
  request: FastifyRequest,
): Promise<PlannedCompletion> {
  const routerModel = context.models.resolve(body.model);
  const caller = callerOf(request);
  const telemetry = telemetryOf(context, request, body, caller.tenant);
  const begunMs = context.clock.monotonicMs();
  const prompts = await planPrompts(context, body, () => telemetry.ended);
  const promptTokens = prompts.map((prompt) => prompt.ids.length);
  telemetry.record('tokenize', begunMs, { 'guildhall.tokens': promptTokens.reduce((sum, count) => sum + count, 0) });
  const id = completionId('cmpl');
  const topLogprobs = body.logprobs ?? -1;
  const echo = body.echo === true;
  const promptTop = body.prompt_logprobs ?? undefined;
  const choices = body.best_of ?? body.n ?? 1;
  const input = {
    id,
    body: { ...body, n: choices },
    parser: 'none' as const,
    // The likeliest are told by their log-probabilities.
    topLogprobs: choices > (body.n ?? 1) ? Math.max(0, topLogprobs) : topLogprobs,
    promptLogprobs: (echo && topLogprobs >= 0) || promptTop !== undefined,
    promptTop,
    tokenIds: body.return_token_ids === true,
    calls: null,
    thinking: undefined,
    traceparent: telemetry.traceparent,
    caller,
  };
  return {
    modelName: body.model,
    routerModel,
    trace: routingTraceOf(request),
    telemetry,
    responseId: id,
    plans: planChoices(context, input, prompts),
    promptTokens,
    options: {
      head: answerHead(context, id, body),
      source: context.assets.tokenizer,
      logprobs: topLogprobs >= 0,
      topLogprobs,
      ...(body.return_tokens_as_token_ids === true ? { labels: ID_SOURCE } : {}),
      facts: prompts.flatMap(({ ids }) => {
        const facts = promptFacts(context.assets.tokenizer, body, ids);
        return Array.from({ length: choices }, () => facts);
      }),
      echo: echo ? echoes(context, promptList(body.prompt), prompts, choices) : null,
      returned: body.n ?? 1,
    },
  };
}

async function answerWhole(
  context: GatewayContext,
  scope: RequestScope,
  planned: PlannedCompletion,
): Promise<CompletionResponse> {
  const { options, plans, promptTokens } = planned;
  const generation = startGeneration(context, scope, planned);
  const collector = new CompletionCollector({ ...options, fingerprint: () => generation.fingerprint }, plans.length);
  const counts = await generation.run(plans, collector);
  return collector.answer(promptTokens, counts);
}

async function answerStream(
  context: GatewayContext,
  scope: RequestScope,
  reply: FastifyReply,
  planned: PlannedCompletion,
  includeUsage: boolean,
): Promise<void> {
  const { options, plans, promptTokens } = planned;
  const generation = startGeneration(context, scope, planned);
  const answer = { ...options, fingerprint: () => generation.fingerprint };
  await runStream(context, scope, reply, planned.trace, async (stream) => {
    const streamer = new CompletionStreamer(answer, plans.length, stream, includeUsage);
    const counts = await generation.run(plans, streamer);
    await streamer.finish(promptTokens, counts);
  });
}

/** POST /v1/completions. */
export function completionsRoute(app: GatewayApp, context: GatewayContext): void {
  app.post(
    '/v1/completions',
    {
      schema: {
        summary: 'Text completion',
        body: completionRequest,
        response: {
          200: {
            description: 'The answer; an event stream of the same shape when `stream` is true.',
            content: {
              'application/json': { schema: completionResponse },
              'text/event-stream': { schema: completionResponse },
            },
          },
          default: errorResponse,
        },
      },
    },
    (request, reply) =>
      withRequestScope(context, reply, request.body.model, async (scope) => {
        const planned = await planCompletion(context, request.body, request);
        if (request.body.stream !== true)
          return runWhole(reply, planned.trace, () => answerWhole(context, scope, planned));
        await answerStream(context, scope, reply, planned, request.body.stream_options?.include_usage === true);
        return reply;
      }),
  );
}
