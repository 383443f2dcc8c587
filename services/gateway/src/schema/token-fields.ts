import { z } from 'zod';
import { addIssue, optional } from './fields.ts';

/** Most alternatives of a prompt's token. */
const MOST_PROMPT_LOGPROBS = 20;

/** Fields of vLLM that chat and text completions share: tokens behind texts. */
export const tokenFields = {
  prompt_logprobs: optional(
    z.int().min(0).max(MOST_PROMPT_LOGPROBS),
    "Return the log-probabilities of the prompt's tokens with so many alternatives. Not with stream.",
  ),
  return_token_ids: optional(z.boolean(), 'Return the token ids of the prompt and of the answer, its end token too.'),
  return_tokens_as_token_ids: optional(z.boolean(), 'Write tokens of log-probabilities as token_id:ID.'),
  request_id: optional(
    z.string().regex(/^[\w.:-]{1,128}$/, 'expected letters, digits, and . : - _, at most 128'),
    'Taken as the X-Request-Id where that header is not sent.',
  ),
};

interface TokenFields {
  stream?: boolean | null | undefined;
  prompt_logprobs?: number | null | undefined;
}

/** Rules over these fields. */
export function checkTokenFields(body: TokenFields, ctx: z.RefinementCtx): void {
  if (body.stream === true && body.prompt_logprobs !== null && body.prompt_logprobs !== undefined)
    addIssue(ctx, 'invalid_value', 'cannot be combined with stream', ['prompt_logprobs']);
}

/** One token of a prompt and its alternatives, by token id; null for the first one, which nothing stands before. */
export const promptLogprobs = z.array(
  z
    .record(
      z.string(),
      z.object({
        logprob: z.number(),
        rank: z.int().nullable().describe('1 for the likeliest; null for a token that is not among the alternatives.'),
        decoded_token: z.string(),
      }),
    )
    .nullable(),
);

export type PromptLogprobs = z.output<typeof promptLogprobs>;

/** Token ids, where they are asked for. */
export const tokenIds = z.array(z.int());
