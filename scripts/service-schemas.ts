import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { z } from 'zod';

/** Services with options, in the order of the documents. */
const SERVICES = ['gateway', 'router', 'expert', 'controller', 'batch'];

/** The option schema of every service of this checkout, by its name. */
export async function serviceSchemas(): Promise<Map<string, z.ZodObject>> {
  const schemas = new Map<string, z.ZodObject>();
  for (const service of SERVICES) {
    const url = new URL(`../services/${service}/src/config.ts`, import.meta.url);
    if (!existsSync(fileURLToPath(url))) continue;
    const module = (await import(url.href)) as Record<string, unknown>;
    const schema = module[`${service}Schema`];
    if (schema === undefined) throw new Error(`services/${service}/src/config.ts exports no ${service}Schema`);
    schemas.set(service, schema as z.ZodObject);
  }
  return schemas;
}
