import { z } from 'zod';
import { named } from './fields.ts';

/** A served model name. */
export const model = named(
  'Model',
  z.object({
    id: z.string(),
    object: z.literal('model'),
    created: z.int(),
    owned_by: z.string(),
    root: z.string().describe('Directory name of the checkpoint.'),
    parent: z.null(),
    max_model_len: z.int().describe('Tokens of prompt and answer together.'),
  }),
);

/** Answer of GET /v1/models. */
export const modelList = named('ModelList', z.object({ object: z.literal('list'), data: z.array(model) }));

export type Model = z.output<typeof model>;
