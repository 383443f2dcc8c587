import type { ErrorCode } from '../errors.ts';

export type JsonSchema = boolean | Readonly<Record<string, unknown>>;
export type SchemaObject = Readonly<Record<string, unknown>>;

/** Why a schema cannot be enforced: at which place, by which keyword. */
export class SchemaError extends Error {
  readonly code: ErrorCode;

  constructor(code: 'unsupported' | 'invalid_value', path: string, message: string) {
    super(`${path}: ${message}`);
    this.code = code;
  }
}

export const TYPES = ['object', 'array', 'string', 'integer', 'number', 'boolean', 'null'] as const;
export type TypeName = (typeof TYPES)[number];

/** Keywords that say something about values of one type. */
export const KEYWORDS_OF_TYPE: Partial<Record<TypeName, readonly string[]>> = {
  object: ['properties', 'required', 'additionalProperties', 'minProperties', 'maxProperties'],
  array: ['items', 'prefixItems', 'minItems', 'maxItems', 'uniqueItems'],
  string: ['minLength', 'maxLength', 'pattern', 'format'],
  number: ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'multipleOf'],
};
const STRUCTURE = ['type', 'enum', 'const', 'anyOf', 'oneOf', 'allOf', '$ref'];
/** Keywords that promise nothing about values. */
const ANNOTATIONS = new Set([
  'title',
  'description',
  'default',
  'examples',
  'example',
  'deprecated',
  'readOnly',
  'writeOnly',
  '$schema',
  '$id',
  '$comment',
  '$defs',
  'definitions',
  'discriminator',
  'contentMediaType',
  'contentEncoding',
]);
export const ENFORCED: ReadonlySet<string> = new Set([...STRUCTURE, ...Object.values(KEYWORDS_OF_TYPE).flat()]);

/** Keywords of JSON Schema that a grammar of this kind cannot hold an answer to. */
const UNENFORCEABLE = new Set([
  'not',
  'if',
  'then',
  'else',
  'patternProperties',
  'propertyNames',
  'dependentRequired',
  'dependentSchemas',
  'dependencies',
  'unevaluatedProperties',
  'unevaluatedItems',
  'contains',
  'minContains',
  'maxContains',
  'additionalItems',
  'contentSchema',
  'nullable',
  '$anchor',
  '$dynamicRef',
  '$dynamicAnchor',
  '$recursiveRef',
  '$recursiveAnchor',
]);

/** Place of a member below another place, as a reader of JSON would write it. */
export function below(path: string, key: string | number): string {
  if (typeof key === 'number') return `${path}[${key}]`;
  return /^[$A-Za-z_][$\w]*$/.test(key) ? `${path}.${key}` : `${path}[${JSON.stringify(key.slice(0, 64))}]`;
}

export function unsupported(path: string, keyword: string, why = 'is not supported'): SchemaError {
  return new SchemaError('unsupported', path, `keyword "${keyword.slice(0, 64)}" ${why}`);
}

export function invalid(path: string, keyword: string, why: string): SchemaError {
  return new SchemaError('invalid_value', path, `keyword "${keyword.slice(0, 64)}" ${why}`);
}

/** Refuses keywords that would be ignored. */
export function checkKeywords(schema: SchemaObject, path: string): void {
  for (const key of Object.keys(schema)) {
    if (ENFORCED.has(key) || ANNOTATIONS.has(key) || key.startsWith('x-')) continue;
    throw UNENFORCEABLE.has(key) ? unsupported(path, key) : unsupported(path, key, 'is not known');
  }
}

/** The keywords that say something about values. */
export function assertions(schema: SchemaObject): SchemaObject {
  return Object.fromEntries(Object.entries(schema).filter(([key]) => ENFORCED.has(key)));
}

export function isObject(value: unknown): value is SchemaObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A schema as JSON has it. */
export function asSchema(value: unknown, path: string): JsonSchema {
  if (typeof value === 'boolean' || isObject(value)) return value;
  throw new SchemaError('invalid_value', path, 'is not a schema: expected an object or a boolean');
}

/** A list with at least one entry. */
export function listOf(schema: SchemaObject, key: string, path: string): readonly unknown[] {
  const value = schema[key];
  if (Array.isArray(value) && value.length > 0) return value as unknown[];
  throw invalid(path, key, 'must be a list with at least one entry');
}

/** A count of a schema, or what is to be taken without it. */
export function countOf<T>(schema: SchemaObject, key: string, path: string, missing: T): number | T {
  const value = schema[key];
  if (value === undefined) return missing;
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw invalid(path, key, 'must be a whole number that is not negative');
}

/** Types that a schema names, or null when it names none. */
export function typesOf(schema: SchemaObject, path: string): readonly TypeName[] | null {
  const { type } = schema;
  if (type === undefined) return null;
  const names: unknown[] = Array.isArray(type) ? type : [type];
  for (const name of names) {
    if (!TYPES.includes(name as TypeName)) throw invalid(path, 'type', `must name types out of ${TYPES.join(', ')}`);
  }
  if (names.length === 0) throw invalid(path, 'type', 'names no type');
  return names as TypeName[];
}

/** Type of a JSON value; whole numbers are integers. */
export function typeOfValue(value: unknown): TypeName {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'array';
  if (typeof value === 'number') return Number.isInteger(value) ? 'integer' : 'number';
  return typeof value as 'object' | 'string' | 'boolean';
}
