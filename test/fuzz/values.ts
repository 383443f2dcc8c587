import type { ApiDescription, Schema } from './api-description.ts';
import type { Random } from './random.ts';
import { knownValues } from './samples.ts';
import { anyText, junk } from './texts.ts';

/** Depth from which on only the simplest values are made. */
const MAX_DEPTH = 7;
/** Optional fields of an object at most: with all of them hardly a request would be right. */
const MAX_OPTIONAL = 4;
/** How often a field with known right values gets one of them. */
const KNOWN_SHARE = 0.75;
const NAMES = ['f', 'get_weather', 'a.b-c', 'call_1', '5', '24h'];

interface Place {
  /** Path of the operation. */
  path: string;
  /** Nearest field. */
  field: string;
  depth: number;
}

/** Makes values that match schemas of the description. */
export class SchemaValues {
  readonly #api: ApiDescription;
  readonly #ids: () => readonly string[];

  /** @param ids of things that may be there, for fields that name one. */
  constructor(api: ApiDescription, ids: () => readonly string[]) {
    this.#api = api;
    this.#ids = ids;
  }

  /** A value for the body of an operation, or for one of its parameters. */
  make(random: Random, schema: Schema, path: string, field = ''): unknown {
    return this.#make(random, schema, { path, field, depth: 0 });
  }

  #make(random: Random, schema: Schema, place: Place): unknown {
    const files = place.field === 'input_file_id' ? this.#ids().filter((id) => id.startsWith('file-')) : [];
    if (files.length > 0 && random.chance(KNOWN_SHARE)) return random.pick(files);
    const parts = place.field === 'part_ids' ? this.#ids().filter((id) => id.startsWith('part_')) : [];
    if (parts.length > 0 && random.chance(KNOWN_SHARE)) return [random.pick(parts)];
    const known = knownValues(place.path, place.field);
    if (known !== null && random.chance(KNOWN_SHARE)) return structuredClone(random.pick(known));
    return this.#right(random, this.#api.resolve(schema), place);
  }

  #right(random: Random, schema: Schema, place: Place): unknown {
    if (place.depth > MAX_DEPTH) return random.pick([null, 'x', 1]);
    const { const: only, enum: listed, anyOf, oneOf, type } = schema;
    if (only !== undefined) return only;
    if (Array.isArray(listed)) return random.pick(listed as unknown[]);
    const branches = (anyOf ?? oneOf) as Schema[] | undefined;
    if (branches !== undefined)
      return this.#right(random, this.#api.resolve(random.pick(branches)), { ...place, depth: place.depth + 1 });
    if (type === undefined) return this.#untyped(random, schema);
    return this.#typed(random, random.pick([type].flat()), schema, place);
  }

  /** Fields without a type are those that are ignored, or refused unless they ask for nothing. */
  #untyped(random: Random, { description }: Schema): unknown {
    const isRefused = String(description).startsWith('Refused');
    return isRefused && random.chance(0.9) ? null : junk(random, 2);
  }

  #typed(random: Random, type: unknown, schema: Schema, place: Place): unknown {
    switch (type) {
      case 'string':
        return this.#text(random, schema);
      case 'integer': {
        const [from, to] = boundsOf(schema, 1000);
        return random.int(Math.ceil(from), Math.floor(to));
      }
      case 'number': {
        const [from, to] = boundsOf(schema, 10);
        return from + (to - from) * random.next();
      }
      case 'boolean':
        return random.chance(0.5);
      case 'array': {
        const least = Math.min(4, numberOf(schema, 'minItems') ?? 0);
        const items = (schema['items'] ?? {}) as Schema;
        const inner = { ...place, depth: place.depth + 1 };
        return random.list(least, Math.max(least, 3), () => this.#make(random, items, { ...inner, field: '' }));
      }
      case 'object':
        return this.#object(random, schema, place);
      default:
        return null;
    }
  }

  #text(random: Random, schema: Schema): string {
    const { pattern } = schema;
    if (typeof pattern === 'string') {
      const fitting = [...NAMES, ...this.#ids()].filter((text) => new RegExp(pattern, 'u').test(text));
      return fitting.length === 0 ? 'x' : random.pick(fitting);
    }
    const text = anyText(random).slice(0, numberOf(schema, 'maxLength') ?? 10_000);
    return text.padEnd(numberOf(schema, 'minLength') ?? 0, 'x');
  }

  #object(random: Random, schema: Schema, place: Place): unknown {
    const properties = (schema['properties'] ?? {}) as Record<string, Schema>;
    const required = (schema['required'] ?? []) as string[];
    const optional = Object.keys(properties).filter((name) => !required.includes(name));
    const names = [...required, ...random.some(optional, random.below(MAX_OPTIONAL + 1))];
    const inner = { ...place, depth: place.depth + 1 };
    const entries = names.map((name) => {
      const value = this.#make(random, properties[name] ?? {}, { ...inner, field: name });
      return [name, value] as [string, unknown];
    });
    return Object.fromEntries([...entries, ...this.#further(random, schema, inner)]);
  }

  /** Fields without a name in the schema, where it allows them. */
  #further(random: Random, { additionalProperties: more }: Schema, place: Place): [string, unknown][] {
    if (typeof more !== 'object' || more === null || random.chance(0.5)) return [];
    const inner = { ...place, field: '' };
    return random.list(1, 3, () => [anyText(random), this.#make(random, more as Schema, inner)] as [string, unknown]);
  }
}

function numberOf(schema: Schema, key: string): number | undefined {
  const value = schema[key];
  return typeof value === 'number' ? value : undefined;
}

/** Bounds of a number, and `width` beside a bound that is missing or far away. */
function boundsOf(schema: Schema, width: number): [number, number] {
  const min = numberOf(schema, 'minimum') ?? numberOf(schema, 'exclusiveMinimum');
  const max = numberOf(schema, 'maximum') ?? numberOf(schema, 'exclusiveMaximum');
  const from = Math.max(min ?? (max === undefined ? -width : max - width), -width);
  return [from, Math.min(max ?? from + width, from + width)];
}
