import { z } from 'zod';
import { named } from './fields.ts';

/** Token counts of a request. */
export const usage = named(
  'Usage',
  z.object({
    prompt_tokens: z.int(),
    completion_tokens: z.int(),
    total_tokens: z.int(),
    prompt_tokens_details: z.object({ cached_tokens: z.int() }),
    completion_tokens_details: z.object({ reasoning_tokens: z.int() }),
  }),
);

export type Usage = z.output<typeof usage>;
