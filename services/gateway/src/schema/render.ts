import { z } from 'zod';
import { named } from './fields.ts';

/** What would be generated from, as the answer of the two render routes. */
export const rendered = named(
  'RenderedPrompt',
  z.object({
    request_id: z.string(),
    model: z.string(),
    prompt: z.string().describe('Text of the prompt, as the chat template makes it.'),
    token_ids: z.array(z.int()),
    max_tokens: z.int().describe('Tokens that would be generated at most.'),
    max_model_len: z.int(),
    inside_think: z.boolean().describe('The answer would begin inside a think block.'),
    features: z.null().describe('There are no inputs but text.'),
    sampling_params: z
      .record(z.string(), z.unknown())
      .describe("The parameters that would count, defaults of the checkpoint among them, under vLLM's names."),
    stream: z.boolean(),
    cache_salt: z.string().nullable(),
    priority: z.int(),
  }),
);

export const renderedList = z.array(rendered);

export type Rendered = z.output<typeof rendered>;
