import { z } from 'zod';

/** Query of GET /v1/usage. */
export const usageQuery = z.strictObject({
  start_time: z.coerce
    .number()
    .int()
    .min(0)
    .optional()
    .describe('Seconds since the Unix epoch; the hour that it falls into is the first. By default 24 hours ago.'),
  end_time: z.coerce
    .number()
    .int()
    .min(0)
    .optional()
    .describe('Seconds since the Unix epoch; the hour before which the report ends. By default with the running hour.'),
});

const counts = {
  requests: z.int(),
  input_tokens: z.int().describe('Prompt tokens, the cached ones among them.'),
  input_cached_tokens: z.int(),
  output_tokens: z.int(),
  reasoning_tokens: z.int().describe('Output tokens within think blocks.'),
  expert_ms: z.number().describe('Milliseconds that expert workers computed.'),
};

/** Answer of GET /v1/usage. */
export const usageReport = z.object({
  object: z.literal('usage'),
  key: z.string().describe('Name of the key, which does not give it away.'),
  tenant: z.string(),
  total: z.object(counts),
  hours: z.array(z.object({ start_time: z.int(), ...counts })),
});

export type UsageReport = z.output<typeof usageReport>;
