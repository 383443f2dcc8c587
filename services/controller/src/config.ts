import { serviceOptions } from '@guildhall/common';
import { z } from 'zod';

/** Configuration of a controller. */
export const controllerSchema = z.strictObject({
  ...serviceOptions,
  minWorkers: z.int().min(1).max(100_000).default(1).describe('Workers to wait for before the first placement.'),
  replicas: z.int().min(1).max(64).default(1).describe('Copies of each expert, as far as workers and memory allow.'),
  settleMs: z
    .int()
    .min(0)
    .max(60_000)
    .default(1000)
    .describe('Time without a further join before a placement for the joined ones, in ms.'),
});

export type ControllerConfig = z.output<typeof controllerSchema>;
