import { z } from 'zod';
import { named } from './fields.ts';

/** The tier of an answer, there when the request asked for one. */
export const servedTier = z.enum(['default', 'flex', 'priority']).optional();

/** Token counts of a request. */
export const usage = named(
  'Usage',
  z.object({
    prompt_tokens: z.int(),
    completion_tokens: z.int(),
    total_tokens: z.int(),
    prompt_tokens_details: z.object({
      cached_tokens: z.int().describe('Prompt tokens that were not computed again.'),
      decode_cached_tokens: z
        .int()
        .optional()
        .describe(
          'Of those: tokens whose cache entries decode made, which rounds otherwise than prefill; there only in the fast mode of the cache and when it is not 0.',
        ),
    }),
    completion_tokens_details: z.object({ reasoning_tokens: z.int() }),
  }),
);

export type Usage = z.output<typeof usage>;
