import {
  assertions,
  isObject,
  type JsonSchema,
  type SchemaObject,
  typeOfValue,
  unsupported,
} from './schema-keywords.ts';

/** A schema that holds where both hold. Throws SchemaError, naming `keyword`, where that is none that a grammar holds to. */
export function mergeSchemas(first: JsonSchema, second: JsonSchema, path: string, keyword: string): JsonSchema {
  if (first === true) return second;
  if (second === true) return first;
  if (first === false || second === false) return false;
  const merged: Record<string, unknown> = { ...assertions(first) };
  for (const [key, value] of Object.entries(assertions(second))) {
    const own = merged[key];
    merged[key] = own === undefined ? value : mergeValues(key, own, value, path, keyword);
  }
  const closed = [first, second].some((schema) => schema['additionalProperties'] !== undefined);
  if (closed && isObject(first['properties']) && isObject(second['properties'])) {
    throw unsupported(path, keyword, 'cannot join properties where additionalProperties is given');
  }
  return merged;
}

function mergeValues(key: string, a: unknown, b: unknown, path: string, keyword: string): unknown {
  if (JSON.stringify(a) === JSON.stringify(b)) return a;
  if (key === 'required' && Array.isArray(a) && Array.isArray(b)) return [...new Set<unknown>([...a, ...b])];
  if (key === 'properties' && isObject(a) && isObject(b)) {
    const shared = Object.keys(b).find((name) => Object.hasOwn(a, name));
    if (shared === undefined) return { ...a, ...b };
  }
  throw unsupported(path, keyword, `cannot be combined with another "${key}"`);
}

function disjoint(a: readonly unknown[], b: readonly unknown[]): boolean {
  const texts = new Set(a.map((value) => JSON.stringify(value)));
  return !b.some((value) => texts.has(JSON.stringify(value)));
}

/** Values that a schema names one by one, or null. */
function namedValues(schema: SchemaObject): readonly unknown[] | null {
  if (schema['const'] !== undefined) return [schema['const']];
  return Array.isArray(schema['enum']) ? (schema['enum'] as unknown[]) : null;
}

function kinds(schema: SchemaObject): Set<string> | null {
  const values = namedValues(schema);
  const { type } = schema;
  const names =
    values === null ? (type === undefined ? null : [type].flat()) : values.map((value) => typeOfValue(value));
  // Whole numbers are numbers too.
  return names === null ? null : new Set(names.map((name) => (name === 'integer' ? 'number' : `${name as string}`)));
}

/** True if no value matches both: by their types, their values, or the value of a property that both require. */
export function neverBoth(a: JsonSchema, b: JsonSchema, resolve: (schema: JsonSchema) => JsonSchema): boolean {
  const [first, second] = [resolve(a), resolve(b)];
  if (first === false || second === false) return true;
  if (first === true || second === true) return false;
  const [own, other] = [kinds(first), kinds(second)];
  if (own !== null && other !== null && disjoint([...own], [...other])) return true;
  const [values, others] = [namedValues(first), namedValues(second)];
  if (values !== null && others !== null) return disjoint(values, others);
  return requiredApart(first, second, resolve);
}

function requiredApart(a: SchemaObject, b: SchemaObject, resolve: (schema: JsonSchema) => JsonSchema): boolean {
  const [own, other] = [a['properties'], b['properties']];
  if (a['type'] !== 'object' || b['type'] !== 'object' || !isObject(own) || !isObject(other)) return false;
  const needed = (schema: SchemaObject, name: string): boolean =>
    Array.isArray(schema['required']) && schema['required'].includes(name);
  return Object.keys(own).some((name) => {
    if (!Object.hasOwn(other, name) || !needed(a, name) || !needed(b, name)) return false;
    const [left, right] = [resolve(own[name] as JsonSchema), resolve(other[name] as JsonSchema)];
    if (!isObject(left) || !isObject(right)) return false;
    const [values, others] = [namedValues(left), namedValues(right)];
    return values !== null && others !== null && disjoint(values, others);
  });
}
