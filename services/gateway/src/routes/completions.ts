import { fail } from '@guildhall/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import {
  CompletionCollector,
  type CompletionAnswerOptions,
  CompletionStreamer,
  type EchoedPrompt,
} from '../answers/completion-answer.ts';
import { answerHead } from '../answers/chat-answer.ts';
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

const DEFAULT_MAX_TOKENS = 16;
/** Log-probabilities of a prompt (tokens times alternatives) that one answer may carry, as routers limit it. */
const MAX_PROMPT_LOGPROBS = 1 << 18;

interface PlannedCompletion extends PlannedRequest {
  promptTokens: number[];
  options: Omit<CompletionAnswerOptions, 'fingerprint'>;
}

async function planPrompts(context: GatewayContext, body: CompletionRequest): Promise<PlannedPrompt[]> {
  const length = contextLength(context);
  const prompts: PlannedPrompt[] = [];
  for (const prompt of promptList(body.prompt)) {
    const prepared = await preparePrompt(context.assets, prompt);
    const maxTokens = tokenBudget(prepared.ids.length, body.max_tokens ?? null, DEFAULT_MAX_TOKENS, length, 'prompt');
    if (body.echo === true) checkPromptLogprobs(prepared.ids.length, body.logprobs ?? null);
    prompts.push({ ...prepared, maxTokens });
  }
  return prompts;
}

function checkPromptLogprobs(promptTokens: number, alternatives: number | null): void {
  const values = alternatives === null ? 0 : promptTokens * (1 + alternatives);
  if (values <= MAX_PROMPT_LOGPROBS) return;
  const message = `logprobs: ${values} values for the prompt, at most ${MAX_PROMPT_LOGPROBS} are returned`;
  throw fail('invalid_value', message, { field: 'logprobs' });
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
  const prompts = await planPrompts(context, body);
  const promptTokens = prompts.map((prompt) => prompt.ids.length);
  telemetry.record('tokenize', begunMs, { 'guildhall.tokens': promptTokens.reduce((sum, count) => sum + count, 0) });
  const id = completionId('cmpl');
  const topLogprobs = body.logprobs ?? -1;
  const echo = body.echo === true;
  const choices = body.best_of ?? body.n ?? 1;
  const input = {
    id,
    body: { ...body, n: choices },
    parser: 'none' as const,
    // The likeliest are told by their log-probabilities.
    topLogprobs: choices > (body.n ?? 1) ? Math.max(0, topLogprobs) : topLogprobs,
    promptLogprobs: echo && topLogprobs >= 0,
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
