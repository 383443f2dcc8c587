import { answerHead, type ChatAnswerOptions } from '../answers/chat-answer.ts';
import { checkPromptLogprobs, ID_SOURCE, promptFacts } from '../answers/token-facts.ts';
import type { Caller } from '../caller.ts';
import { contextLength, type GatewayContext } from '../context.ts';
import { planChoices } from '../plan.ts';
import { prepareChat, tokenBudget } from '../prompt.ts';
import { completionId } from '../request-id.ts';
import { type AskingRequest, type PlannedRequest, routingTraceOf, telemetryOf } from '../run-completion.ts';
import type { ChatRequest } from '../schema/chat.ts';
import { asksForFunctions, withTools } from '../tools/functions.ts';
import { callRules } from '../tools/tool-choice.ts';
import { thinkingBudget } from './thinking-budget.ts';

/** A chat request whose messages are tokenized and whose choices are planned, whatever shape its answer will have. */
export interface PlannedChat extends PlannedRequest {
  promptTokens: number;
  /** What answers are made with, but for the fingerprint, which a router gives. */
  options: Omit<ChatAnswerOptions, 'fingerprint'>;
}

/**
 * Plans the choices of a chat request, of which `asked` has passed the schema `chatRequest`. Throws errors of the
 * registry for a model that is not served, messages that the template refuses and answers that the context cannot hold.
 * @param id of the answer.
 */
export async function planChat(
  context: GatewayContext,
  asked: ChatRequest,
  request: AskingRequest,
  caller: Caller,
  id = completionId('chatcmpl'),
): Promise<PlannedChat> {
  const { assets, config, clock, parser, models } = context;
  const body = withTools(asked);
  const routerModel = models.resolve(body.model);
  const telemetry = telemetryOf(context, request, body, caller.tenant);
  const begunMs = clock.monotonicMs();
  const bounds = { enough: contextLength(context), gone: () => telemetry.ended };
  const prompt = await prepareChat(assets, body, bounds);
  telemetry.record('tokenize', begunMs, { 'guildhall.tokens': prompt.ids.length });
  const most = body.max_completion_tokens ?? body.max_tokens ?? null;
  const maxTokens = tokenBudget(prompt, most, config.defaultMaxTokens, contextLength(context), 'messages');
  const logprobs = body.logprobs === true;
  const promptTop = body.prompt_logprobs ?? undefined;
  checkPromptLogprobs(prompt.ids.length, promptTop ?? null, 'prompt_logprobs');
  const input = {
    id,
    body,
    parser,
    topLogprobs: logprobs ? (body.top_logprobs ?? 0) : -1,
    promptLogprobs: promptTop !== undefined,
    promptTop,
    tokenIds: body.return_token_ids === true,
    calls: callRules(body),
    thinking: await thinkingBudget(context, body, prompt),
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
      head: answerHead(context, id, body),
      source: body.return_tokens_as_token_ids === true ? ID_SOURCE : assets.tokenizer,
      facts: promptFacts(assets.tokenizer, body, prompt.ids),
      logprobs,
      asFunctions: asksForFunctions(asked),
    },
  };
}
