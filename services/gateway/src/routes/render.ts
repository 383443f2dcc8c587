import type { router } from '@guildhall/proto';
import { contextLength, type GatewayContext } from '../context.ts';
import { samplingParams, stopConditions } from '../params.ts';
import { type PreparedPrompt, prepareChat, preparePrompt, tokenBudget } from '../prompt.ts';
import { completionId } from '../request-id.ts';
import { type ChatRequest, chatRequest } from '../schema/chat.ts';
import { type CompletionRequest, completionRequest } from '../schema/completion.ts';
import { errorResponse } from '../schema/error.ts';
import { promptList } from '../schema/prompt.ts';
import { type Rendered, rendered, renderedList } from '../schema/render.ts';
import { withTools } from '../tools/functions.ts';
import { DEFAULT_MAX_TOKENS } from './completions.ts';
import type { GatewayApp } from './types.ts';

interface RenderInput {
  body: ChatRequest | CompletionRequest;
  id: string;
  prompt: PreparedPrompt;
  maxTokens: number;
  topLogprobs: number;
}

function renderedOf(context: GatewayContext, { body, id, prompt, maxTokens, topLogprobs }: RenderInput): Rendered {
  const { assets, config } = context;
  const sampling = samplingParams(assets, body, config.generationConfig === 'auto', topLogprobs);
  const stop = stopConditions(assets, body, maxTokens);
  return {
    request_id: id,
    model: body.model,
    prompt: assets.tokenizer.decode(prompt.ids, { skipSpecial: false }),
    token_ids: prompt.ids,
    max_tokens: maxTokens,
    max_model_len: contextLength(context),
    inside_think: prompt.insideThink,
    features: null,
    sampling_params: vllmParams(body, sampling, stop),
    stream: body.stream ?? false,
    cache_salt: body.cache_salt ?? null,
    priority: body.priority ?? 0,
  };
}

/** Parameters under vLLM's names. A seed that would be drawn is null. */
function vllmParams(
  body: ChatRequest | CompletionRequest,
  sampling: router.SamplingParams,
  stop: router.StopConditions,
): Record<string, unknown> {
  return {
    n: body.n ?? 1,
    temperature: sampling.temperature,
    top_p: sampling.topP,
    top_k: sampling.topK,
    min_p: sampling.minP,
    repetition_penalty: sampling.repetitionPenalty,
    presence_penalty: sampling.presencePenalty,
    frequency_penalty: sampling.frequencyPenalty,
    seed: body.seed ?? null,
    logit_bias: sampling.logitBias.size === 0 ? null : Object.fromEntries(sampling.logitBias),
    max_tokens: stop.maxTokens,
    min_tokens: stop.minTokens,
    stop: stop.stopStrings,
    stop_token_ids: stop.stopTokenIds,
    ignore_eos: stop.ignoreEos,
    include_stop_str_in_output: stop.includeStop,
    skip_special_tokens: body.skip_special_tokens ?? true,
    logprobs: sampling.topLogprobs < 0 ? null : sampling.topLogprobs,
    prompt_logprobs: body.prompt_logprobs ?? null,
  };
}

async function renderChat(context: GatewayContext, body: ChatRequest): Promise<Rendered> {
  const { assets, config, models } = context;
  models.resolve(body.model);
  const prompt = await prepareChat(assets, body, { enough: contextLength(context) });
  const asked = body.max_completion_tokens ?? body.max_tokens ?? null;
  const maxTokens = tokenBudget(prompt, asked, config.defaultMaxTokens, contextLength(context), 'messages');
  const topLogprobs = body.logprobs === true ? (body.top_logprobs ?? 0) : -1;
  return renderedOf(context, { body, id: completionId('chatcmpl'), prompt, maxTokens, topLogprobs });
}

async function renderCompletion(context: GatewayContext, body: CompletionRequest): Promise<Rendered[]> {
  context.models.resolve(body.model);
  const all: Rendered[] = [];
  for (const given of promptList(body.prompt)) {
    const length = contextLength(context);
    const prompt = await preparePrompt(context.assets, given, { enough: length });
    const maxTokens = tokenBudget(prompt, body.max_tokens ?? null, DEFAULT_MAX_TOKENS, length, 'prompt');
    all.push(
      renderedOf(context, { body, id: completionId('cmpl'), prompt, maxTokens, topLogprobs: body.logprobs ?? -1 }),
    );
  }
  return all;
}

/** POST /v1/chat/completions/render and POST /v1/completions/render, named and shaped like vLLM's: prompts, and no answer. */
export function renderRoute(app: GatewayApp, context: GatewayContext): void {
  app.post(
    '/v1/chat/completions/render',
    {
      schema: {
        summary: 'The prompt of a chat completion, without generating',
        body: chatRequest,
        response: { 200: rendered, default: errorResponse },
      },
    },
    (request) => renderChat(context, withTools(request.body)),
  );
  app.post(
    '/v1/completions/render',
    {
      schema: {
        summary: 'The prompts of a text completion, without generating',
        body: completionRequest,
        response: { 200: renderedList, default: errorResponse },
      },
    },
    (request) => renderCompletion(context, request.body),
  );
}
