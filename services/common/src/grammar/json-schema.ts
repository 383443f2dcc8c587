import { deterministicText } from './automaton.ts';
import { Effort } from './effort.ts';
import { JSON_RULES } from './json-text.ts';
import { choice, textNode } from './nodes.ts';
import { arrayText, objectText, type SchemaWriter } from './schema-structures.ts';
import {
  asSchema,
  assertions,
  below,
  checkKeywords,
  invalid,
  isObject,
  type JsonSchema,
  KEYWORDS_OF_TYPE,
  listOf,
  SchemaError,
  type SchemaObject,
  type TypeName,
  typeOfValue,
  typesOf,
  unsupported,
} from './schema-keywords.ts';
import { mergeSchemas, neverBoth } from './schema-merge.ts';
import { integerText, lineText, numberText, stringText } from './schema-scalars.ts';
import { lengthsIn, type StringLengths, StringRules } from './string-lengths.ts';

export const MAX_SCHEMA_BYTES = 256 * 1024;
/** Schemas within schemas. */
const MAX_DEPTH = 64;
const MAX_RULES = 16_384;
/** Steps of looking at one schema, or at two together. */
const STEPS_OF_SCHEMA = 16;

/** References that were followed without anything between them. */
type Trail = readonly string[];

/** Writes the grammar of the JSON texts that a schema allows. */
class Writer implements SchemaWriter {
  readonly effort: Effort;
  readonly strings: StringRules | null;
  readonly #root: JsonSchema;
  readonly #place: string;
  readonly #rules = new Map<string, string>();
  readonly #refs = new Map<string, string>();
  #depth = 0;

  constructor(root: JsonSchema, place: string, effort: Effort, lengths: StringLengths | null) {
    this.effort = effort;
    this.strings = lengths === null ? null : new StringRules(lengths, this);
    this.#root = root;
    this.#place = place;
  }

  grammar(): string {
    return this.#text(this.#write(this.#root, this.#place, []));
  }

  line(): string {
    return this.#text(lineText(this.#root as SchemaObject, this.#place, this));
  }

  #text(body: string): string {
    return [
      `root ::= ${body}`,
      ...Object.entries(JSON_RULES).map(([name, text]) => `${name} ::= ${text}`),
      ...[...this.#rules].map(([name, text]) => `${name} ::= ${text}`),
      '',
    ].join('\n');
  }

  value(schema: unknown, path: string): string {
    return this.#write(asSchema(schema, path), path, []);
  }

  rule(text: string): string {
    const name = this.reserve();
    this.define(name, text);
    return name;
  }

  define(name: string, text: string): void {
    this.#rules.set(name, text);
  }

  reserve(): string {
    if (this.#rules.size >= MAX_RULES) {
      throw new SchemaError('unsupported', this.#place, `needs more than ${MAX_RULES} rules`);
    }
    const name = `r${this.#rules.size}`;
    this.#rules.set(name, '');
    return name;
  }

  #write(schema: JsonSchema, path: string, trail: Trail): string {
    if (schema === true) return 'value';
    if (schema === false) throw new SchemaError('invalid_value', path, 'allows no value at all');
    if (++this.#depth > MAX_DEPTH) {
      throw new SchemaError('unsupported', this.#place, `schemas are nested more than ${MAX_DEPTH} deep`);
    }
    this.effort.spend(STEPS_OF_SCHEMA + weight(schema));
    checkKeywords(schema, path);
    const text = this.#writeObject(assertions(schema), path, trail);
    this.#depth -= 1;
    return text;
  }

  #writeObject(schema: SchemaObject, path: string, trail: Trail): string {
    if (schema['$ref'] !== undefined) return this.#reference(schema, path, trail);
    if (schema['allOf'] !== undefined) return this.#allOf(schema, path, trail);
    if (schema['anyOf'] !== undefined) return this.#anyOf(schema, 'anyOf', path, trail);
    if (schema['oneOf'] !== undefined) return this.#anyOf(schema, 'oneOf', path, trail);
    if (schema['const'] !== undefined || schema['enum'] !== undefined) return this.#values(schema, path);
    const types = typesOf(schema, path) ?? inferredTypes(schema);
    if (types === null) return 'value';
    const options = [...new Set(types)].map((type) => this.#type(type, schema, path));
    return options.length === 1 ? (options[0] as string) : this.rule(options.join(' | '));
  }

  #type(type: TypeName, schema: SchemaObject, path: string): string {
    switch (type) {
      case 'object':
        return this.rule(objectText(schema, path, this));
      case 'array':
        return this.rule(arrayText(schema, path, this));
      case 'string':
        return this.#scalar(stringText(schema, path, this));
      case 'integer':
        return this.#scalar(integerText(schema, path, this));
      case 'number':
        return this.#scalar(numberText(schema, path, this));
      case 'boolean':
      case 'null':
        return type;
    }
  }

  /** A rule of its own, unless it is one already. */
  #scalar(text: string): string {
    return Object.hasOwn(JSON_RULES, text) ? text : this.rule(text);
  }

  #values(schema: SchemaObject, path: string): string {
    const keyword = schema['const'] === undefined ? 'enum' : 'const';
    const other = Object.keys(schema).find((key) => key !== keyword && key !== 'type');
    if (other !== undefined) throw unsupported(path, other, `cannot be combined with "${keyword}"`);
    const types = typesOf(schema, path);
    const values = keyword === 'const' ? [schema['const']] : listOf(schema, 'enum', path);
    const fits = (value: unknown): boolean => {
      const type = typeOfValue(value);
      return types === null || types.includes(type) || (type === 'integer' && types.includes('number'));
    };
    const { strings } = this;
    const texts = values
      .filter(fits)
      .map((value) =>
        typeof value === 'string' && strings !== null ? strings.given(value) : textNode(JSON.stringify(value)),
      );
    if (texts.length === 0) throw invalid(path, keyword, 'has no value of the type');
    return this.rule(deterministicText([{ node: choice(...texts), rest: '' }], this));
  }

  #allOf(schema: SchemaObject, path: string, trail: Trail): string {
    const { allOf: _, ...rest } = schema;
    const parts = listOf(schema, 'allOf', path);
    const merged = parts.reduce<JsonSchema>((sum, part, index) => {
      const place = below(below(path, 'allOf'), index);
      // What is the same in both is found by comparing their texts.
      this.effort.spend(STEPS_OF_SCHEMA * (1 + weight(sum)));
      return mergeSchemas(sum, this.#resolve(asSchema(part, place), place), path, 'allOf');
    }, rest);
    return this.#write(merged, path, trail);
  }

  #anyOf(schema: SchemaObject, keyword: 'anyOf' | 'oneOf', path: string, trail: Trail): string {
    const { [keyword]: _, ...rest } = schema;
    const branches = listOf(schema, keyword, path).map((branch, i) => asSchema(branch, below(below(path, keyword), i)));
    if (keyword === 'oneOf') this.#checkApart(branches, path);
    const isBare = Object.keys(rest).length === 0;
    const texts = branches.map((branch, index) => {
      const place = below(below(path, keyword), index);
      this.effort.spend(STEPS_OF_SCHEMA + weight(rest));
      const whole = isBare ? branch : mergeSchemas(rest, this.#resolve(branch, place), place, keyword);
      return this.#write(whole, place, trail);
    });
    return texts.length === 1 ? (texts[0] as string) : this.rule([...new Set(texts)].join(' | '));
  }

  #checkApart(branches: readonly JsonSchema[], path: string): void {
    const resolve = (schema: JsonSchema): JsonSchema => this.#resolve(schema, path);
    for (const [i, first] of branches.entries()) {
      const second = branches.slice(i + 1).find((other) => {
        this.effort.spend(STEPS_OF_SCHEMA + weight(first) + weight(other));
        return !neverBoth(first, other, resolve);
      });
      if (second === undefined) continue;
      throw unsupported(path, 'oneOf', 'has branches that the same value may match; use "anyOf"');
    }
  }

  #reference(schema: SchemaObject, path: string, trail: Trail): string {
    const { $ref: ref, ...rest } = schema;
    const target = this.#find(ref, path);
    const pointer = ref as string;
    if (trail.includes(pointer)) throw invalid(path, '$ref', 'leads back to itself');
    if (Object.keys(rest).length > 0) {
      return this.#write(mergeSchemas(rest, this.#resolve(target, path), path, '$ref'), path, [...trail, pointer]);
    }
    const known = this.#refs.get(pointer);
    if (known !== undefined) return known;
    const name = this.reserve();
    this.#refs.set(pointer, name);
    this.#rules.set(
      name,
      this.#write(target, this.#place + pointer.slice(1).replaceAll('/', '.'), [...trail, pointer]),
    );
    return name;
  }

  /** The schema behind references. */
  #resolve(schema: JsonSchema, path: string): JsonSchema {
    const seen = new Set<unknown>();
    let found = schema;
    while (isObject(found) && found['$ref'] !== undefined && Object.keys(assertions(found)).length === 1) {
      const ref = found['$ref'];
      if (seen.has(ref)) throw invalid(path, '$ref', 'leads back to itself');
      seen.add(ref);
      found = this.#find(ref, path);
    }
    if (isObject(found)) checkKeywords(found, path);
    return found;
  }

  #find(ref: unknown, path: string): JsonSchema {
    if (typeof ref !== 'string') throw invalid(path, '$ref', 'must be a string');
    if (ref !== '#' && !ref.startsWith('#/')) throw unsupported(path, '$ref', 'may only refer to this schema ("#/…")');
    let found: unknown = this.#root;
    for (const part of ref.split('/').slice(1)) {
      const key = decoded(part).replaceAll('~1', '/').replaceAll('~0', '~');
      const container = found as Record<string, unknown>;
      found = typeof found === 'object' && found !== null && Object.hasOwn(container, key) ? container[key] : undefined;
    }
    if (found === undefined) throw invalid(path, '$ref', `"${ref.slice(0, 64)}" is not there`);
    return asSchema(found, path);
  }
}

/** A part of a reference without its percent signs, or as it is where they mean nothing. */
function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** How much there is to copy and compare of a schema, without what is within it. */
function weight(schema: JsonSchema): number {
  if (!isObject(schema)) return 1;
  const { properties, required, enum: values } = schema;
  const lists = [required, values].reduce<number>((sum, list) => sum + (Array.isArray(list) ? list.length : 0), 0);
  return lists + (isObject(properties) ? Object.keys(properties).length : 0);
}

/** Without "type", keywords speak of the values that they are about; those are what an answer is held to. */
function inferredTypes(schema: SchemaObject): TypeName[] | null {
  const types = (Object.keys(KEYWORDS_OF_TYPE) as TypeName[]).filter((type) =>
    KEYWORDS_OF_TYPE[type]?.some((key) => schema[key] !== undefined),
  );
  return types.length === 0 ? null : types;
}

/**
 * The grammar of the JSON texts that match a schema; every text of the grammar matches, not every match is in it. Keywords
 * that it cannot hold an answer to are refused. Errors: SchemaError, with places below `place`, and EffortError.
 * @param lengths those that are counted for the grammar; more than the schema names do no harm.
 */
export function jsonSchemaGrammar(
  schema: JsonSchema,
  place: string,
  effort = new Effort(),
  lengths = lengthsIn(schema, place),
): string {
  return new Writer(schema, place, effort, lengths).grammar();
}

/**
 * The grammar of one line of plain text, its line break included, that matches a schema of strings: for values that are
 * not written as JSON. Errors as above.
 */
export function lineGrammar(
  schema: SchemaObject,
  place: string,
  effort: Effort,
  lengths: StringLengths | null,
): string {
  checkKeywords(schema, place);
  return new Writer(schema, place, effort, lengths).line();
}

/** Any JSON object. */
export function jsonObjectGrammar(): string {
  return jsonSchemaGrammar({ type: 'object' }, 'json_object');
}
