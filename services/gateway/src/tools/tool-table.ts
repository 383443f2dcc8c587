import { ANY_TYPE, isSchema, type JsonSchema, resolveReference, typesOf, type ValueTypes } from './value-types.ts';

/** A tool as requests have it. */
export interface ToolInput {
  function: {
    name: string;
    parameters?: Record<string, unknown> | null | undefined;
    strict?: unknown;
  };
}

/** What the arguments of a tool may be. */
export interface ToolSignature {
  /** Types that the value of a parameter may have; any, for one that the tool does not declare. */
  typesOf(key: string): ValueTypes;
  /** The tool's schema names the parameter. */
  declares(key: string): boolean;
}

/** The tools of a request, by name. */
export type ToolTable = ReadonlyMap<string, ToolSignature>;

/** Types by parameter, read from the schemas once. A tool that is given twice is the later one. */
export function toolTable(tools: readonly ToolInput[]): ToolTable {
  return new Map(tools.map(({ function: { name, parameters } }) => [name, signatureOf(parameters ?? {})]));
}

function signatureOf(root: JsonSchema): ToolSignature {
  const types = new Map<string, ValueTypes>();
  const schema = resolveReference(root, root['$ref']) ?? root;
  for (const part of [schema, ...listOf(schema['allOf']), ...listOf(schema['anyOf']), ...listOf(schema['oneOf'])]) {
    const resolved = resolveReference(root, part['$ref']) ?? part;
    for (const [key, value] of Object.entries(isSchema(resolved['properties']) ? resolved['properties'] : {}))
      types.set(key, (types.get(key) ?? 0) | typesOf(value, root));
  }
  const others = isSchema(schema['additionalProperties']) ? typesOf(schema['additionalProperties'], root) : ANY_TYPE;
  return { typesOf: (key) => types.get(key) ?? others, declares: (key) => types.has(key) };
}

function listOf(value: unknown): JsonSchema[] {
  return Array.isArray(value) ? value.filter(isSchema) : [];
}
