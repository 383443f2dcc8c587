import { z } from 'zod';
import { addIssue, named, optional, refused } from './fields.ts';
import { promptField, promptList } from './prompt.ts';
import { checkCommon, LIMITS, samplingFields } from './sampling.ts';
import { checkTokenFields, promptLogprobs, tokenFields, tokenIds } from './token-fields.ts';
import { servedTier, usage } from './usage.ts';

/** Body of POST /v1/completions. */
export const completionRequest = named(
  'CompletionRequest',
  z
    .strictObject({
      prompt: promptField,
      ...samplingFields,
      ...tokenFields,
      max_tokens: optional(z.int().min(0).max(0x7fffffff), 'Default 16. 0 is allowed with echo.'),
      logprobs: optional(z.int().min(0).max(LIMITS.topLogprobs), 'Alternatives returned per token.'),
      echo: optional(z.boolean(), 'Put the prompt before the text.'),
      suffix: refused('a suffix', { harmless: (value) => value === '' }),
      best_of: optional(
        z.int().min(1).max(LIMITS.choices),
        'Generate so many and return the n likeliest by their mean log-probability. Default: n. Not with stream.',
      ),
    })
    .superRefine((body, ctx) => {
      checkCommon(body, ctx);
      checkTokenFields(body, ctx);
      const n = body.n ?? 1;
      const bestOf = body.best_of ?? n;
      if (bestOf < n) addIssue(ctx, 'invalid_value', 'must be at least n', ['best_of']);
      if (bestOf > n && body.stream === true)
        addIssue(ctx, 'invalid_value', 'cannot be combined with stream when it is more than n', ['best_of']);
      if (body.max_tokens === 0 && body.echo !== true)
        addIssue(ctx, 'invalid_value', '0 is only allowed with echo', ['max_tokens']);
      if (promptList(body.prompt).length * bestOf > LIMITS.prompts) {
        const field = bestOf > n ? 'best_of' : 'n';
        addIssue(ctx, 'invalid_value', `prompts times ${field} may be at most ${LIMITS.prompts}`, [field]);
      }
    }),
);

export type CompletionRequest = z.output<typeof completionRequest>;

/** Log-probabilities of a text completion, in four arrays of equal length. */
export const completionLogprobs = z.object({
  tokens: z.array(z.string()),
  token_logprobs: z.array(z.number().nullable()),
  top_logprobs: z.array(z.record(z.string(), z.number()).nullable()),
  text_offset: z.array(z.int()),
});

/** Answer of POST /v1/completions; a streamed one has the same shape in each chunk, with finish_reason null until the end. */
export const completionResponse = named(
  'Completion',
  z.object({
    id: z.string(),
    object: z.literal('text_completion'),
    created: z.int(),
    model: z.string(),
    system_fingerprint: z.string().nullable(),
    service_tier: servedTier,
    choices: z.array(
      z.object({
        index: z.int(),
        text: z.string(),
        logprobs: completionLogprobs.nullable(),
        finish_reason: z.enum(['stop', 'length']).nullable(),
        stop_reason: z.union([z.string(), z.int()]).nullish(),
        token_ids: tokenIds.optional(),
        prompt_token_ids: tokenIds.optional(),
        prompt_logprobs: promptLogprobs.optional(),
      }),
    ),
    usage: usage.nullish(),
  }),
);

export type CompletionResponse = z.output<typeof completionResponse>;
export type CompletionLogprobs = z.output<typeof completionLogprobs>;
