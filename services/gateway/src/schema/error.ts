import { z } from 'zod';
import { named } from './fields.ts';

/** Every error of the gateway, also as the last event of a broken stream. */
export const errorResponse = named(
  'ErrorResponse',
  z.object({
    error: z.object({
      message: z.string(),
      type: z.string(),
      param: z.string().nullable().describe('The field at fault.'),
      code: z.string().describe('A code of the error registry; see docs/errors.md.'),
    }),
  }),
);

/** Answer of GET /health and of GET /ready. */
export const healthResponse = named('Health', z.object({ status: z.string() }));
export const readyResponse = named(
  'Readiness',
  z.object({
    ready: z.boolean(),
    reason: z.string().nullable(),
    routers: z.int(),
    redis: z.enum(['connected', 'lost']),
  }),
);
