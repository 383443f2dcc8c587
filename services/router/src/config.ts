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

/** `name=2.5`; the name may have `=` in it. */
const tenantWeight = z
  .string()
  .regex(/^[^]{0,128}=\d{1,6}(\.\d{1,6})?$/, 'expected name=weight')
  .transform((text) => {
    const at = text.lastIndexOf('=');
    return { tenant: text.slice(0, at), weight: Number(text.slice(at + 1)) };
  })
  .refine(({ weight }) => weight > 0, 'a weight must be above 0');

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
  prefixCache: z
    .enum(['exact', 'fast', 'off'])
    .default('exact')
    .describe(
      'Whether prompts share the pages of their common beginnings. exact: a hit gives the bits of a miss. fast: pages and states that decode made are reused too, whose bits differ from those that prefill gives.',
    ),
  pageTokens: z
    .int()
    .min(64)
    .max(4096)
    .multipleOf(64)
    .default(64)
    .describe('Tokens of a shared page: prefixes are found and moved in pages of this size.'),
  snapshotMemory: byteSize
    .nullable()
    .default(null)
    .describe('Memory for states of shared prefixes; by default a quarter of the KV cache, and four states at least.'),
  snapshotGrid: z
    .int()
    .min(64)
    .multipleOf(64)
    .default(4096)
    .describe('Distance of states within a long prompt, tokens; one more is kept at its end and where prompts fork.'),
  kvHostMemory: byteSize
    .prefault('256MiB')
    .describe('Host memory for pages that left the KV cache, such as 2GiB; 0 for none.'),
  kvDisk: z
    .string()
    .min(1)
    .nullable()
    .default(null)
    .describe(
      'Folder for pages that left host memory, of this router alone; found again after a restart. By default none.',
    ),
  kvDiskLimit: byteSize.prefault('4GiB').describe('Room in the folder of --kv-disk.'),
  maxPulls: z
    .int()
    .min(0)
    .default(4)
    .describe('Transfers of pages from other routers at a time; 0 turns them off, and taking over moved sequences.'),
  maxFetches: positive.default(8).describe('Transfers of pages to other routers at a time; more are refused.'),
  pullRate: byteSize
    .prefault('512MiB')
    .describe('Bytes a second at which another router is expected to give pages before its rate was measured.'),
  pullStallMs: positive
    .default(2000)
    .describe('Time without a byte after which a transfer from another router is given up, milliseconds.'),
  pullLimitMs: positive
    .default(60_000)
    .describe('Time that a transfer from another router may take in all, milliseconds.'),
  fetchStallMs: positive
    .default(5000)
    .describe('Time after which another router that takes none of the pages it asked for is cut off, milliseconds.'),
  parkMs: positive
    .default(30_000)
    .describe('Time that a sequence which was moved away is kept for the router that takes it over, milliseconds.'),
  maxRunning: positive.max(4096).default(64).describe('Sequences that hold pages and state at a time.'),
  maxWaiting: positive.default(1024).describe('Sequences that wait at most; one more is refused.'),
  queueLimitMs: positive.default(120_000).describe('Time that a sequence may wait to be admitted, milliseconds.'),
  priorityAgingMs: positive
    .default(30_000)
    .describe(
      "Time after which a tenant's waiting requests of one priority rise by one level, if none of them was admitted; milliseconds. Up to the highest priority that is about.",
    ),
  tenantWeights: z
    .array(tenantWeight)
    .default([])
    .describe('Tenants that are due more or less than the others, as name=weight; everybody else has the weight 1.'),
  swap: z
    .enum(['auto', 'off'])
    .default('auto')
    .describe(
      'Whether a sequence that has to give its pages up is copied to host memory or disk, where the measured rates say that this is cheaper than computing it again.',
    ),
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
    .default(200)
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
  hedgeShare: z
    .number()
    .min(0)
    .max(1)
    .default(0.03)
    .describe('Second calls to replicas of slow workers, as a share of all calls at most; 0 for none.'),
  expertWaitMs: positive
    .default(60_000)
    .describe('Time that requests without a deadline wait for experts which no live worker holds, milliseconds.'),
  expertFallback: z
    .enum(['off', 'local'])
    .default('off')
    .describe('local: experts that no live worker holds are computed in this process, from its checkpoint.'),
  expertFallbackAfterMs: z
    .int()
    .min(0)
    .default(2000)
    .describe('Time that a live worker is waited for before that, milliseconds.'),
  expertFallbackMemory: byteSize
    .prefault('1GiB')
    .describe('Memory for experts of this process, such as 2GiB: those used longest ago make room.'),
  grammarCompileMs: positive
    .default(5000)
    .describe(
      'Time that the grammar of a structured answer may take to compile, milliseconds; a request with a larger one is refused.',
    ),
  grammarMemory: byteSize
    .prefault('512MiB')
    .describe(
      'Memory that each thread of the grammar engine may take, such as 512MiB. There are two, and one more for each of up to four large grammars.',
    ),
  loadReportMs: positive.default(5000).describe('Interval of the load reports to Redis, milliseconds.'),
  drainMs: z
    .int()
    .min(0)
    .default(5000)
    .describe(
      'Time that other routers get to take running streams over, or those to finish, when the process is asked to stop, milliseconds.',
    ),
  ...serviceOptions,
});

export type RouterConfig = z.output<typeof routerSchema>;

/** Errors: `config_invalid`, naming the option. */
export function loadRouterConfig(argv: readonly string[], env: Record<string, string | undefined>): RouterConfig {
  return loadConfig(routerSchema, { argv, env, fileFlag: 'config', program: 'router' });
}
