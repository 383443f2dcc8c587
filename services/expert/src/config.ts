import { availableParallelism, totalmem } from 'node:os';
import { coreLeasesField, serviceOptions } from '@guildhall/common';
import { KV_DTYPES, WEIGHT_FORMATS } from '@guildhall/model/weights';
import { z } from 'zod';

const MIB = 1 << 20;

/** Configuration of an expert worker. */
export const expertSchema = z.strictObject({
  ...serviceOptions,
  model: z
    .string()
    .describe(
      'Directory of the checkpoint; only expert tensors are read from it. With --model-from-peers the folder that keeps what peers gave; made when it is missing.',
    ),
  modelFromPeers: z
    .boolean()
    .default(false)
    .describe(
      'Get the model and the experts that are not in the directory from workers that have them, and keep them.',
    ),
  modelDiskMib: z
    .int()
    .min(1)
    .nullable()
    .default(null)
    .describe('MiB of experts from peers that are kept on disk; by default as many as leave 1 GiB free.'),
  loadRateMib: z
    .int()
    .min(0)
    .max(1 << 20)
    .default(256)
    .describe(
      'MiB of weights loaded a second at most while the worker serves and others hold the experts; 0: no limit.',
    ),
  maxWeightTransfers: z
    .int()
    .min(0)
    .max(256)
    .default(4)
    .describe('Workers that may fetch weights from this one at a time; more are refused, with 0 all.'),
  weights: z
    .enum(WEIGHT_FORMATS)
    .default('bf16')
    .describe('Format in which weights are kept and multiplied. All processes must agree.'),
  weightsCache: z
    .string()
    .min(1)
    .default('auto')
    .describe('Where quantised weights are kept for the next start: auto (beside the checkpoint), off, or a folder.'),
  threads: z.int().min(1).max(1024).default(availableParallelism()).describe('Threads that compute.'),
  coreLeases: coreLeasesField,
  isa: z
    .enum(['auto', 'scalar', 'avx2', 'avx512'])
    .default('auto')
    .describe('Instruction set; auto takes the best that the CPU has.'),
  bf16Kernels: z
    .enum(['auto', 'bf16-fma', 'bf16-dot'])
    .default('auto')
    .describe('Kernel family for bf16 weights; auto takes bf16-dot where the CPU has it. All processes must agree.'),
  kvDtype: z
    .enum(KV_DTYPES)
    .default('auto')
    .describe('Format of the routers’ KV pages, which the numerics class names; must be the same there.'),
  combine: z
    .enum(['exact', 'partial'])
    .default('exact')
    .describe(
      'exact returns a row per token and expert, partial one sum per token: fewer bytes, tolerance instead of bits.',
    ),
  weightMemoryMib: z
    .int()
    .min(1)
    .default(Math.max(1, Math.floor((totalmem() * 0.6) / MIB)))
    .describe('MiB of expert weights that the controller may place here; by default 60 % of the memory.'),
  maxMessageBytes: z
    .int()
    .min(1 << 16)
    .max(64 << 20)
    .default(4 * MIB)
    .describe('Largest message accepted or sent, in bytes.'),
  maxQueued: z.int().min(1).max(4096).default(16).describe('Requests that wait per stream before the answer is BUSY.'),
  drainMs: z
    .int()
    .min(0)
    .max(600_000)
    .default(30_000)
    .describe(
      'At shutdown, time that others get to take its experts over, in ms; it ends sooner when none can or need.',
    ),
  group: z
    .string()
    .max(63)
    .default('')
    .describe('Group of workers that are scaled together; in Kubernetes those of one Deployment.'),
  failureDomain: z.string().max(128).default('').describe('Name of the rack or zone, for placement.'),
});

export type ExpertConfig = z.output<typeof expertSchema>;
