import { MAX_SALT_LENGTH } from '@guildhall/common';
import { z } from 'zod';
import { SERVICE_TIERS } from '../service-tier.ts';
import { constraintFields } from './constraint.ts';
import { addIssue, ignored, optional, refused } from './fields.ts';

/** Limits of request fields. */
export const LIMITS = {
  choices: 128,
  stopStrings: 64,
  stopStringBytes: 1024,
  stopTokenIds: 256,
  logitBias: 1024,
  topLogprobs: 20,
  messages: 2048,
  tools: 1024,
  prompts: 1024,
} as const;

const stopString = z
  .string()
  .min(1)
  .superRefine((text, ctx) => {
    if (Buffer.byteLength(text) <= LIMITS.stopStringBytes) return;
    addIssue(ctx, 'invalid_value', `at most ${LIMITS.stopStringBytes} bytes`);
  });
// Characters are counted as people do, not in UTF-16 units. Half a surrogate pair would become another character on its
// way, and so share pages with salts that it differs from.
const cacheSalt = z
  .string()
  .min(1)
  .superRefine((salt, ctx) => {
    if (!salt.isWellFormed()) addIssue(ctx, 'invalid_value', 'is not well-formed Unicode');
    else if (salt.length > 2 * MAX_SALT_LENGTH || Array.from(salt).length > MAX_SALT_LENGTH)
      addIssue(ctx, 'invalid_value', `at most ${MAX_SALT_LENGTH} characters`);
  })
  .meta({ maxLength: MAX_SALT_LENGTH });
const uint31 = z.int().min(0).max(0x7fffffff);

const streamOptions = z.strictObject({
  include_usage: optional(z.boolean(), 'Send a last chunk with the usage and no choices.'),
  include_obfuscation: ignored('no padding is sent.'),
  continuous_usage_stats: refused('usage in every chunk', {
    harmless: (value) => value === false,
    instead: 'use include_usage',
  }),
});

/** Fields that chat and text completions share. */
export const samplingFields = {
  model: z.string().min(1).max(256).describe('A served model name; see GET /v1/models.'),
  stream: optional(z.boolean(), 'Send the answer as server-sent events.'),
  stream_options: optional(streamOptions, 'Only with stream.'),
  n: optional(z.int().min(1).max(LIMITS.choices), 'Number of choices.'),
  seed: optional(z.int(), 'Makes sampling repeatable; a random one is drawn when absent.'),
  stop: optional(
    z.union([stopString, z.array(stopString).max(LIMITS.stopStrings)]),
    'One string or several; the text ends before the first that appears.',
  ),
  temperature: optional(z.number().min(0).max(2), "0 is greedy. Default: the checkpoint's generation_config, else 1."),
  top_p: optional(z.number().min(0).max(1), "Default: the checkpoint's generation_config, else 1."),
  top_k: optional(
    z.int().min(-1).max(0x7fffffff),
    "0 and -1 mean all. Default: the checkpoint's generation_config, else all.",
  ),
  min_p: optional(z.number().min(0).max(1), 'Least probability relative to the likeliest token.'),
  repetition_penalty: optional(z.number().gt(0).max(10), '1 means none.'),
  presence_penalty: optional(z.number().min(-2).max(2), '0 means none.'),
  frequency_penalty: optional(z.number().min(-2).max(2), '0 means none.'),
  logit_bias: optional(
    z.record(z.string().regex(/^\d{1,9}$/, 'expected a token id'), z.number().min(-100).max(100)),
    `Added to the logits of token ids; at most ${LIMITS.logitBias} of them.`,
  ),
  min_tokens: optional(uint31, 'No end before that many tokens.'),
  ignore_eos: optional(z.boolean(), "Go on after the checkpoint's end tokens."),
  stop_token_ids: optional(z.array(uint31).max(LIMITS.stopTokenIds), 'Further token ids that end the answer.'),
  include_stop_str_in_output: optional(z.boolean(), 'Keep what ended the answer in its text.'),
  skip_special_tokens: optional(z.boolean(), 'Leave special tokens out of the text. Default true.'),
  cache_salt: optional(
    cacheSalt,
    'Cached prefixes are shared only between requests with the same salt, or both without one.',
  ),
  priority: optional(
    z.int().min(-100).max(100),
    'Lower is served earlier, as in vLLM; default 0. Other values are refused where the gateway does not allow them.',
  ),
  ...constraintFields,
  user: ignored('callers are told apart by their API key.'),
  metadata: ignored('nothing is stored.'),
  safety_identifier: ignored('callers are told apart by their API key.'),
  prompt_cache_key: ignored('prefixes are found by their content.'),
  prompt_cache_retention: ignored('prefixes are found by their content.'),
  prompt_cache_options: ignored('prefixes are found by their content.'),
  service_tier: optional(
    z.enum(SERVICE_TIERS),
    '"flex" gives way to others; "priority" is served earlier where the gateway allows it; "scale" and "fast" are "default". ' +
      'The answer says which it was.',
  ),
};

interface CommonFields {
  stream?: boolean | null | undefined;
  stream_options?: unknown;
  logit_bias?: Record<string, number> | null | undefined;
}

/** Rules over several fields that both kinds of completion share. */
export function checkCommon(body: CommonFields, ctx: z.RefinementCtx): void {
  if (body.stream !== true && body.stream_options !== null && body.stream_options !== undefined) {
    addIssue(ctx, 'invalid_value', 'only allowed when stream is true', ['stream_options']);
  }
  if (Object.keys(body.logit_bias ?? {}).length > LIMITS.logitBias) {
    addIssue(ctx, 'invalid_value', `at most ${LIMITS.logitBias} token ids`, ['logit_bias']);
  }
}
