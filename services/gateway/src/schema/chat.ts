import { z } from 'zod';
import { addIssue, ignored, named, optional, refused } from './fields.ts';
import { functionInput, message, tool } from './messages.ts';
import { checkCommon, LIMITS, samplingFields } from './sampling.ts';
import { checkTokenFields, promptLogprobs, tokenFields, tokenIds } from './token-fields.ts';
import {
  checkCallForms,
  checkFunctions,
  checkTools,
  functionCallAnswer,
  functionCallPiece,
  functionChoice,
  toolChoice,
  toolCallAnswer,
  toolCallPiece,
} from './tools.ts';
import { servedTier, usage } from './usage.ts';

const RESERVED_KWARGS = ['messages', 'tools', 'add_generation_prompt'];

const templateKwargs = z.record(z.string(), z.unknown()).superRefine((kwargs, ctx) => {
  for (const key of RESERVED_KWARGS) {
    if (Object.hasOwn(kwargs, key)) addIssue(ctx, 'invalid_value', 'is a field of the request itself', [key]);
  }
});

/** What decides how messages become a prompt; /tokenize takes the same. */
export const templateFields = {
  add_generation_prompt: optional(z.boolean(), 'Default: true unless continue_final_message.'),
  continue_final_message: optional(z.boolean(), 'Go on with the last message instead of starting a new one.'),
  chat_template_kwargs: optional(templateKwargs, 'Further variables for the chat template, such as enable_thinking.'),
  enable_thinking: optional(z.boolean(), 'Short for chat_template_kwargs.enable_thinking.'),
  tools: optional(z.array(tool).max(LIMITS.tools), 'Functions that the model may call; the template shows them to it.'),
};

interface TemplateFields {
  add_generation_prompt?: boolean | null | undefined;
  continue_final_message?: boolean | null | undefined;
}

/** Rules over the template's fields. */
export function checkTemplate(body: TemplateFields, ctx: z.RefinementCtx): void {
  if (body.continue_final_message === true && body.add_generation_prompt === true) {
    addIssue(ctx, 'invalid_value', 'cannot be combined with add_generation_prompt', ['continue_final_message']);
  }
}

function isTextOnly(modalities: unknown): boolean {
  return Array.isArray(modalities) && modalities.every((modality) => modality === 'text');
}

/** Body of POST /v1/chat/completions. */
export const chatRequest = named(
  'ChatCompletionRequest',
  z
    .strictObject({
      messages: z.array(message).min(1).max(LIMITS.messages),
      ...samplingFields,
      ...tokenFields,
      ...templateFields,
      max_tokens: optional(z.int().min(1).max(0x7fffffff), 'Default: what the context leaves.'),
      max_completion_tokens: optional(z.int().min(1).max(0x7fffffff), 'The newer name of max_tokens; wins over it.'),
      logprobs: optional(z.boolean(), 'Return the log-probability of each token.'),
      top_logprobs: optional(z.int().min(0).max(LIMITS.topLogprobs), 'Alternatives per token; needs logprobs.'),
      tool_choice: optional(toolChoice, 'Default: "auto" where there are tools. "none" hides them from the model.'),
      reasoning_effort: optional(
        z.enum(['none', 'minimal', 'low', 'medium', 'high', 'xhigh', 'max']),
        '"none" turns thinking off; other values are given to the template as reasoning_effort.',
      ),
      parallel_tool_calls: optional(z.boolean(), 'false: the answer ends with its first call. Default true.'),
      thinking_token_budget: optional(
        z.int().min(0).max(0x7fffffff),
        'Tokens of thinking after which the think block is closed. Also chat_template_kwargs.thinking_budget.',
      ),
      store: refused('storing completions', { harmless: (value) => value === false }),
      modalities: refused('output other than text', { harmless: isTextOnly }),
      audio: refused('audio output'),
      prediction: ignored('it makes answers faster elsewhere and never changes them.'),
      web_search_options: refused('web search'),
      verbosity: optional(z.enum(['low', 'medium', 'high']), 'Accepted and ignored: the models know of none.'),
      moderation: refused('moderation'),
      functions: optional(
        z.array(functionInput).max(LIMITS.tools),
        'The older form of tools; answers have function_call. Not with tools.',
      ),
      function_call: optional(functionChoice, 'The older form of tool_choice: "none", "auto" or a function.'),
    })
    .superRefine((body, ctx) => {
      checkCommon(body, ctx);
      checkTokenFields(body, ctx);
      checkTemplate(body, ctx);
      checkTools(body, ctx);
      checkFunctions(body, ctx);
      checkCallForms(body.messages, ctx);
      if (body.logprobs !== true && (body.top_logprobs ?? 0) > 0) {
        addIssue(ctx, 'invalid_value', 'needs logprobs to be true', ['top_logprobs']);
      }
    }),
);

export type ChatRequest = z.output<typeof chatRequest>;

const tokenLogprob = z.object({ token: z.string(), logprob: z.number(), bytes: z.array(z.int()).nullable() });

/** Log-probabilities of a choice or chunk. */
export const chatLogprobs = z.object({
  content: z.array(tokenLogprob.extend({ top_logprobs: z.array(tokenLogprob) })).nullable(),
  refusal: z.null(),
});

const finishReason = z.enum(['stop', 'length', 'tool_calls', 'function_call']);

/** Answer of POST /v1/chat/completions. */
export const chatResponse = named(
  'ChatCompletion',
  z.object({
    id: z.string(),
    object: z.literal('chat.completion'),
    created: z.int(),
    model: z.string(),
    system_fingerprint: z.string().nullable(),
    service_tier: servedTier,
    choices: z.array(
      z.object({
        index: z.int(),
        message: z.object({
          role: z.literal('assistant'),
          content: z.string().nullable(),
          reasoning_content: z.string().nullable(),
          reasoning: z.string().nullable().describe('The same as reasoning_content.'),
          tool_calls: z.array(toolCallAnswer).optional(),
          function_call: functionCallAnswer.optional(),
          refusal: z.null(),
        }),
        logprobs: chatLogprobs.nullable(),
        finish_reason: finishReason,
        stop_reason: z
          .union([z.string(), z.int()])
          .nullable()
          .describe(
            'The stop string or the asked for stop token id that ended the answer; null where an end id of the checkpoint did.',
          ),
        token_ids: tokenIds.optional(),
      }),
    ),
    prompt_token_ids: tokenIds.optional(),
    prompt_logprobs: promptLogprobs.optional(),
    usage,
  }),
);

/** One `data:` line of a streamed chat completion. */
export const chatChunk = named(
  'ChatCompletionChunk',
  z.object({
    id: z.string(),
    object: z.literal('chat.completion.chunk'),
    created: z.int(),
    model: z.string(),
    system_fingerprint: z.string().nullable(),
    service_tier: servedTier,
    choices: z.array(
      z.object({
        index: z.int(),
        delta: z.object({
          role: z.literal('assistant').optional(),
          content: z.string().optional(),
          reasoning_content: z.string().optional(),
          reasoning: z.string().optional(),
          tool_calls: z.array(toolCallPiece).optional(),
          function_call: functionCallPiece.optional(),
        }),
        logprobs: chatLogprobs.nullable(),
        finish_reason: finishReason.nullable(),
        stop_reason: z.union([z.string(), z.int()]).nullish(),
        token_ids: tokenIds.optional(),
      }),
    ),
    prompt_token_ids: tokenIds.optional(),
    usage: usage.nullish(),
  }),
);

export type ChatResponse = z.output<typeof chatResponse>;
export type ChatChunk = z.output<typeof chatChunk>;
export type ChatLogprobs = z.output<typeof chatLogprobs>;
