import { optionsOf } from '@guildhall/common';
import { KERNEL_VERSIONS, KV_KERNEL_VERSIONS } from '@guildhall/model/weights';
import type { z } from 'zod';

/** Facts of the code that templates compute with: versions of the arithmetic, and limits of drains. */
export function chartFacts(services: ReadonlyMap<string, z.ZodObject>): string {
  const drainMs = [...services].flatMap(([service, schema]) => {
    const option = optionsOf(schema).find(({ name }) => name === 'drainMs');
    return option === undefined ? [] : [[service, option.default] as const];
  });
  const facts = { kernels: KERNEL_VERSIONS, kvKernels: KV_KERNEL_VERSIONS, drainMs: Object.fromEntries(drainMs) };
  return `${JSON.stringify(facts, null, 2)}\n`;
}
