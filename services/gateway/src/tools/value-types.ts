/** JSON types that a value may have, as a set of bits. */
export const TYPE = { string: 1, number: 2, boolean: 4, null: 8, object: 16, array: 32 } as const;

/** Any of `TYPE`, or'ed. */
export type ValueTypes = number;

export const ANY_TYPE: ValueTypes = 63;

/** Schemas that are looked into for one value; beyond it a value may be anything. References may lead in circles. */
const MAX_LOOKS = 256;

const BY_NAME: ReadonlyMap<unknown, ValueTypes> = new Map<unknown, ValueTypes>([
  ['string', TYPE.string],
  ['number', TYPE.number],
  ['integer', TYPE.number],
  ['boolean', TYPE.boolean],
  ['null', TYPE.null],
  ['object', TYPE.object],
  ['array', TYPE.array],
]);

/** A JSON schema, or a part of one. */
export type JsonSchema = Readonly<Record<string, unknown>>;

/** True for a JSON object. */
export function isSchema(value: unknown): value is JsonSchema {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The part of `root` that a local reference (`#/$defs/x`) names; undefined where there is none. */
export function resolveReference(root: JsonSchema, reference: unknown): JsonSchema | undefined {
  if (typeof reference !== 'string' || !reference.startsWith('#')) return undefined;
  let at: unknown = root;
  for (const part of reference.slice(1).split('/').slice(1)) {
    const key = decodeURIComponentSafely(part).replaceAll('~1', '/').replaceAll('~0', '~');
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, key)) return undefined;
    at = (at as Record<string, unknown>)[key];
  }
  return isSchema(at) ? at : undefined;
}

function decodeURIComponentSafely(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Types of a JSON value. */
function typeOfValue(value: unknown): ValueTypes {
  if (value === null) return TYPE.null;
  if (Array.isArray(value)) return TYPE.array;
  return BY_NAME.get(typeof value) ?? ANY_TYPE;
}

/**
 * Types that a schema lets a value have: by `type`, `enum` and `const`, through local references, and through `anyOf`,
 * `oneOf` and `allOf`. A schema that says nothing of types, and one that contradicts itself, allows every type.
 */
export function typesOf(schema: unknown, root: JsonSchema): ValueTypes {
  let looks = 0;
  const look = (at: unknown): ValueTypes => {
    looks += 1;
    return isSchema(at) && looks <= MAX_LOOKS ? ownTypes(at, root, look) : ANY_TYPE;
  };
  return look(schema);
}

/** @param look gives the types of a part of the schema. */
function ownTypes(schema: JsonSchema, root: JsonSchema, look: (at: unknown) => ValueTypes): ValueTypes {
  let types = ANY_TYPE & namedTypes(schema['type']);
  if (Array.isArray(schema['enum'])) types &= union(schema['enum'].map(typeOfValue));
  if (Object.hasOwn(schema, 'const')) types &= typeOfValue(schema['const']);
  if (schema['$ref'] !== undefined) types &= look(resolveReference(root, schema['$ref']));
  for (const word of ['anyOf', 'oneOf']) {
    const branches = schema[word];
    if (Array.isArray(branches)) types &= union(branches.map(look));
  }
  if (Array.isArray(schema['allOf'])) for (const part of schema['allOf']) types &= look(part);
  // As OpenAPI 3.0 says it.
  if (schema['nullable'] === true) types |= TYPE.null;
  return types === 0 ? ANY_TYPE : types;
}

function namedTypes(type: unknown): ValueTypes {
  if (type === undefined) return ANY_TYPE;
  return union((Array.isArray(type) ? type : [type]).map((name: unknown) => BY_NAME.get(name) ?? 0));
}

/** All types of a list; any type where the list has none. */
function union(list: readonly ValueTypes[]): ValueTypes {
  return list.reduce((all, types) => all | types, 0) || ANY_TYPE;
}
