import { serviceOptions } from '@guildhall/common';
import { z } from 'zod';
import { s3Place } from './store/s3-store.ts';

const MIB = 2 ** 20;

/** Configuration of the batch service. */
export const batchSchema = z.strictObject({
  ...serviceOptions,
  dataDir: z
    .string()
    .min(1)
    .nullable()
    .default(null)
    .describe('Folder of the files; a volume that all batch processes share where there are several.'),
  filesStorage: z
    .string()
    .refine((url) => s3Place(url) !== null, 'expected s3://bucket or s3://bucket/prefix')
    .nullable()
    .default(null)
    .describe(
      'Bucket for the files instead of a folder, as s3://bucket/prefix; endpoint, region and credentials by AWS_ENDPOINT_URL_S3, AWS_REGION and what else the tools of AWS take.',
    ),
  gatewayUrl: z
    .url({ protocol: /^https?$/ })
    .nullable()
    .default(null)
    .describe(
      'URL of the API that lines of batches are sent to; by default the gateways of the cluster in turn, over HTTP.',
    ),
  concurrency: z.int().min(1).max(1024).default(16).describe('Lines of one batch that are on their way at a time.'),
  concurrentBatches: z.int().min(1).max(64).default(2).describe('Batches that this process works on at a time.'),
  turnMs: z
    .int()
    .min(100)
    .max(3_600_000)
    .default(60_000)
    .describe('Time after which a batch goes to the end of the queue while others wait, in ms.'),
  maxFileBytes: z
    .int()
    .min(1024)
    .max(8192 * MIB)
    .default(512 * MIB)
    .describe('Largest file.'),
  maxLines: z.int().min(1).max(1_000_000).default(50_000).describe('Requests of one batch at most.'),
  maxLineBytes: z
    .int()
    .min(1024)
    .max(64 * MIB)
    .default(8 * MIB)
    .describe('Longest line of a batch.'),
  maxFiles: z.int().min(1).max(1_000_000).default(10_000).describe('Files of one tenant at most.'),
  fileTtlHours: z.int().min(0).max(87_600).default(720).describe('Hours after which files are removed; 0 for never.'),
  windowHours: z.int().min(1).max(168).default(24).describe('Hours in which a batch must be done.'),
  drainMs: z
    .int()
    .min(0)
    .max(600_000)
    .default(20_000)
    .describe(
      'At shutdown, time that lines on their way get to end, in ms; the others are done by who takes the batch over.',
    ),
});

export type BatchConfig = z.output<typeof batchSchema>;
