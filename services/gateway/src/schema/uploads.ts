import { z } from 'zod';
import { named, optional } from './fields.ts';
import { file, PURPOSES } from './files.ts';

export const MIN_LIFE_S = 3600;
export const MAX_LIFE_S = 30 * 86_400;
export const MAX_NAME = 255;
/** Parts of an upload; the batch service has the same limit. */
const MAX_PARTS = 10_000;

/** Body of POST /v1/uploads. */
export const uploadRequest = named(
  'UploadRequest',
  z.strictObject({
    filename: z.string().min(1).max(MAX_NAME),
    purpose: z.enum(PURPOSES).describe('What the file is for; `batch` for the input of a batch.'),
    bytes: z.int().min(1).describe('What the file has in the end.'),
    mime_type: z.string().min(1).max(MAX_NAME).describe('Accepted, and of no effect.'),
    expires_after: optional(
      z.strictObject({ anchor: z.literal('created_at'), seconds: z.int().min(MIN_LIFE_S).max(MAX_LIFE_S) }),
      'When the file is removed; 30 days after it was made unless the operator has said otherwise.',
    ),
  }),
);

/** Body of POST /v1/uploads/{upload_id}/complete. */
export const completeRequest = named(
  'UploadCompleteRequest',
  z.strictObject({
    part_ids: z.array(z.string().max(64)).min(1).max(MAX_PARTS).describe('All parts, in the order of the file.'),
    md5: optional(z.string().regex(/^[0-9a-fA-F]{32}$/, 'expected 32 hexadecimal digits'), 'Of the whole file.'),
  }),
);

/** An upload, in OpenAI's shape. */
export const upload = named(
  'Upload',
  z.object({
    id: z.string(),
    object: z.literal('upload'),
    bytes: z.int(),
    created_at: z.int(),
    expires_at: z.int(),
    filename: z.string(),
    purpose: z.string(),
    status: z.enum(['pending', 'completed', 'cancelled', 'expired']),
    file: file.nullable(),
  }),
);

/** A part of an upload, in OpenAI's shape. */
export const uploadPart = named(
  'UploadPart',
  z.object({ id: z.string(), object: z.literal('upload.part'), created_at: z.int(), upload_id: z.string() }),
);

export type Upload = z.output<typeof upload>;
