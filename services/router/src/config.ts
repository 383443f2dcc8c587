import { coreLeasesField, loadConfig, serviceOptions } from '@guildhall/common';
import { KV_DTYPES, WEIGHT_FORMATS } from '@guildhall/model/weights';
import { z } from 'zod';

const UNITS: Record<string, number> = { '': 1, K: 1 << 10, M: 1 << 20, G: 1 << 30, T: 2 ** 40 };

/** `256MiB`, `2G` or a number of bytes. */
const byteSize = z
  .string()
  .regex(/^\d{1,15}\s?([KMGT](i?B)?|B)?$/i, 'expected a size such as 256MiB, 2GiB or a number of bytes')
  .transform((text) => {
    const [, digits = '0', unit = ''] = /^(\d+)\s?([KMGT]?)/i.exec(text) ?? [];
    return Number(digits) * (UNITS[unit.toUpperCase()] ?? 1);
  });

const positive = z.int().min(1);

/** Options of the router; docs/config.md is made from it. */
export const routerSchema = z.strictObject({
  model: z.string().min(1).describe('Directory of the checkpoint.'),
  servedModelName: z
    .array(z.string().min(1).max(256))
    .default([])
    .describe('Names under which the model is served; by default the name of its directory.'),
  weights: z
    .enum(WEIGHT_FORMATS)
    .default('bf16')
    .describe('Format of the weights in memory; part of the numerics class.'),
  weightsCache: z
    .string()
    .min(1)
    .default('auto')
    .describe('Where quantised weights are kept for the next start: auto (beside the checkpoint), off, or a folder.'),
  experts: z
    .enum(['remote', 'local'])
    .default('remote')
    .describe('Where the routed experts are: in expert workers, or all of them in this process.'),
  threads: positive.max(1024).nullable().default(null).describe('Native threads; by default one for each core.'),
  coreLeases: coreLeasesField,
  isa: z.enum(['auto', 'scalar', 'avx2', 'avx512']).default('auto').describe('Instruction set of the kernels.'),
  bf16Kernels: z
    .enum(['auto', 'bf16-fma', 'bf16-dot'])
    .default('auto')
    .describe('Kernel family for BF16 weights; part of the numerics class.'),
  kvDtype: z
    .enum(KV_DTYPES)
    .default('auto')
    .describe('Format of KV pages; auto is f32 under f32 weights, else bf16. Part of the numerics class.'),
  combine: z
    .enum(['exact', 'partial'])
    .default('exact')
    .describe('exact: same bits under any placement. partial: one sum per token and worker, fewer bytes.'),
  maxContext: positive
    .nullable()
    .default(null)
    .describe('Tokens of prompt and answer together; by default what the checkpoint and the KV cache allow.'),
  kvMemory: byteSize.prefault('256MiB').describe('Memory of the KV cache, such as 2GiB.'),
  numPages: positive.nullable().default(null).describe('Pages of 64 tokens in the KV cache, instead of --kv-memory.'),
  maxRunning: positive.max(4096).default(64).describe('Sequences that hold pages and state at a time.'),
  maxWaiting: positive.default(1024).describe('Sequences that wait at most; one more is refused.'),
  queueLimitMs: positive.default(120_000).describe('Time that a sequence may wait to be admitted, milliseconds.'),
  stepBudgetMs: positive
    .default(50)
    .describe('Predicted time of a decode step with the prefill beside it: bounds the time between two tokens.'),
  decodeSlowdown: z
    .number()
    .min(1.01)
    .max(1000)
    .default(1.6)
    .describe(
      'Time for a token while a long prompt is computed beside the stream, relative to the time without; prefill gets what this leaves.',
    ),
  prefillBurstMs: z
    .int()
    .min(0)
    .default(500)
    .describe('Prefill beside running streams that is not bound by --decode-slowdown yet, milliseconds.'),
  chunkTokens: z
    .int()
    .min(64)
    .max(65_536)
    .multipleOf(64)
    .default(512)
    .describe('Prompt tokens of one prefill step at most.'),
  microBatches: z
    .int()
    .min(1)
    .max(8)
    .default(2)
    .describe(
      'Micro-batches that a decode step is split into, so that one computes while the rows of another are away; always 1 with --experts local.',
    ),
  microBatchMin: positive.default(4).describe('Sequences of a micro-batch at least.'),
  maxMessageBytes: z
    .int()
    .min(1 << 16)
    .max(64 << 20)
    .default(256 << 10)
    .describe('Largest message to and from workers, bytes.'),
  replyLimitMs: positive
    .default(10_000)
    .describe('Time without a reply after which a worker counts as lost, milliseconds; three times that in prefill.'),
  expertWaitMs: positive
    .default(60_000)
    .describe('Time that requests wait for experts which no live worker holds, milliseconds.'),
  loadReportMs: positive.default(5000).describe('Interval of the load reports to Redis, milliseconds.'),
  drainMs: z
    .int()
    .min(0)
    .default(5000)
    .describe('Time that running streams get to finish when the process is asked to stop, milliseconds.'),
  ...serviceOptions,
});

export type RouterConfig = z.output<typeof routerSchema>;

/** Errors: `config_invalid`, naming the option. */
export function loadRouterConfig(argv: readonly string[], env: Record<string, string | undefined>): RouterConfig {
  return loadConfig(routerSchema, { argv, env, fileFlag: 'config', program: 'router' });
}
