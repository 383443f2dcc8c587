import { z } from 'zod';
import { named } from './fields.ts';

/** What files may be for. Only `batch` means something here; the others are kept. */
export const PURPOSES = ['batch', 'user_data', 'assistants', 'vision', 'fine-tune', 'evals'] as const;

export function isPurpose(text: string): boolean {
  return PURPOSES.some((purpose) => purpose === text);
}

/** A file, in OpenAI's shape. */
export const file = named(
  'File',
  z.object({
    id: z.string(),
    object: z.literal('file'),
    bytes: z.int(),
    created_at: z.int(),
    expires_at: z.int().nullable(),
    filename: z.string(),
    purpose: z.string(),
    status: z.literal('processed'),
  }),
);

/** Query of lists: pages by the id of the last one. */
export const pageFields = {
  after: z.string().max(64).optional().describe('Id of the last entry of the page before.'),
  order: z.enum(['asc', 'desc']).default('desc').describe('By time of creation.'),
};

export const fileListQuery = z.strictObject({
  ...pageFields,
  limit: z.coerce.number().int().min(1).max(10_000).default(10_000),
  purpose: z.enum([...PURPOSES, 'batch_output']).optional(),
});

export const fileList = named(
  'FileList',
  z.object({
    object: z.literal('list'),
    data: z.array(file),
    has_more: z.boolean(),
    first_id: z.string().nullable(),
    last_id: z.string().nullable(),
  }),
);

export const deletedFile = named(
  'DeletedFile',
  z.object({ id: z.string(), object: z.literal('file'), deleted: z.literal(true) }),
);

export type File = z.output<typeof file>;
