import type { SwaggerTransformObject } from '@fastify/swagger';
import { jsonSchemaTransformObject } from 'fastify-type-provider-zod';

/** Names of the schemas that a part of the document refers to. */
function references(part: unknown): string[] {
  const found = JSON.stringify(part).matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g);
  return [...found].map((match) => match[1] ?? '');
}

function reachable(paths: unknown, schemas: Record<string, unknown>): Set<string> {
  const used = new Set<string>();
  const queue = references(paths);
  for (let name = queue.pop(); name !== undefined; name = queue.pop()) {
    if (used.has(name) || schemas[name] === undefined) continue;
    used.add(name);
    queue.push(...references(schemas[name]));
  }
  return used;
}

/**
 * Adds the named zod schemas to the OpenAPI document. Each exists as input and as output; only those that some path
 * refers to are kept.
 */
export const withUsedSchemas: SwaggerTransformObject = (document) => {
  const whole = jsonSchemaTransformObject(document) as {
    paths?: unknown;
    components?: { schemas?: Record<string, unknown> };
  };
  const schemas = whole.components?.schemas ?? {};
  const used = reachable(whole.paths ?? {}, schemas);
  const kept = Object.fromEntries(Object.entries(schemas).filter(([name]) => used.has(name)));
  return { ...whole, components: { ...whole.components, schemas: kept } } as ReturnType<SwaggerTransformObject>;
};
