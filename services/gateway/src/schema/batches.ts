import { z } from 'zod';
import { named, optional } from './fields.ts';
import { pageFields } from './files.ts';

const MAX_METADATA = 16;

/** Body of POST /v1/batches. */
export const batchRequest = named(
  'BatchRequest',
  z.strictObject({
    input_file_id: z.string().min(1).max(64).describe('A JSONL file uploaded with purpose `batch`.'),
    endpoint: z.enum(['/v1/chat/completions', '/v1/completions']).describe('What every line asks for.'),
    completion_window: z.literal('24h').describe('Time in which the batch is done, or expires.'),
    metadata: optional(
      z
        .record(z.string().max(64), z.string().max(512))
        .refine((value) => Object.keys(value).length <= MAX_METADATA, `at most ${MAX_METADATA} entries`),
      'Up to 16 texts, kept with the batch.',
    ),
  }),
);

const time = z.int().nullable();

/** A batch, in OpenAI's shape. */
export const batch = named(
  'Batch',
  z.object({
    id: z.string(),
    object: z.literal('batch'),
    endpoint: z.string(),
    errors: z
      .object({
        object: z.literal('list'),
        data: z.array(
          z.object({
            code: z.string(),
            message: z.string(),
            param: z.string().nullable(),
            line: z.int().nullable(),
          }),
        ),
      })
      .nullable(),
    input_file_id: z.string(),
    completion_window: z.literal('24h'),
    status: z.string(),
    output_file_id: z.string().nullable(),
    error_file_id: z.string().nullable(),
    created_at: z.int(),
    in_progress_at: time,
    expires_at: time,
    finalizing_at: time,
    completed_at: time,
    failed_at: time,
    expired_at: time,
    cancelling_at: time,
    cancelled_at: time,
    request_counts: z.object({ total: z.int(), completed: z.int(), failed: z.int() }),
    metadata: z.record(z.string(), z.string()).nullable(),
  }),
);

export const batchListQuery = z.strictObject({
  ...pageFields,
  limit: z.coerce.number().int().min(1).max(100).default(20),
});

export const batchList = named(
  'BatchList',
  z.object({
    object: z.literal('list'),
    data: z.array(batch),
    has_more: z.boolean(),
    first_id: z.string().nullable(),
    last_id: z.string().nullable(),
  }),
);

export type Batch = z.output<typeof batch>;
