import type { z } from 'zod';
import { errorMessage, fail, type GuildhallError } from './errors.ts';

/** How an option is written as text. */
export type OptionKind = 'string' | 'number' | 'boolean' | 'array';

/** One field of a configuration schema, as flags, environment and documentation see it. */
export interface OptionInfo {
  /** Name in the configuration file and in code. */
  name: string;
  /** `--kebab-case`. */
  flag: string;
  /** `GUILDHALL_UPPER_SNAKE`. */
  env: string;
  kind: OptionKind;
  /** Kind of the items of an array, else null. */
  itemKind: OptionKind | null;
  /** Allowed words of an enum. */
  choices: string[] | null;
  nullable: boolean;
  /** The value may not be printed. */
  secret: boolean;
  required: boolean;
  default: unknown;
  description: string;
}

interface SchemaDef {
  type: string;
  innerType?: z.ZodType;
  in?: z.ZodType;
  element?: z.ZodType;
  entries?: Record<string, string>;
  defaultValue?: unknown;
}

const WRAPPERS = new Set(['default', 'prefault', 'optional', 'nullable', 'readonly', 'catch', 'nonoptional']);

function defOf(schema: z.ZodType): SchemaDef {
  return (schema as unknown as { def: SchemaDef }).def;
}

/** `stepBudgetMs` to `step-budget-ms`. */
export function kebabCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

function kindOf(schema: z.ZodType): OptionKind {
  const def = defOf(schema);
  if (def.type === 'number' || def.type === 'boolean' || def.type === 'array') return def.type;
  if (def.type === 'int') return 'number';
  if (def.type === 'pipe' && def.in !== undefined) return kindOf(unwrap(def.in).inner);
  return 'string';
}

interface Unwrapped {
  inner: z.ZodType;
  nullable: boolean;
  required: boolean;
  default: unknown;
  description: string;
  secret: boolean;
}

function unwrap(schema: z.ZodType): Unwrapped {
  const found: Unwrapped = {
    inner: schema,
    nullable: false,
    required: true,
    default: undefined,
    description: '',
    secret: false,
  };
  for (let at: z.ZodType | undefined = schema; at !== undefined;) {
    const def: SchemaDef = defOf(at);
    found.inner = at;
    found.description ||= at.description ?? '';
    found.secret ||= at.meta()?.['secret'] === true;
    if (!WRAPPERS.has(def.type)) break;
    if (def.type === 'nullable') found.nullable = true;
    if (def.type === 'optional') found.required = false;
    if (def.type === 'default' || def.type === 'prefault') {
      found.required = false;
      found.default = def.defaultValue;
    }
    at = def.innerType;
  }
  return found;
}

/** Options of a schema, in its order. */
export function optionsOf(schema: z.ZodObject): OptionInfo[] {
  return Object.entries(schema.shape).map(([name, field]) => {
    const { inner, nullable, required, default: value, description, secret } = unwrap(field as z.ZodType);
    const def = defOf(inner);
    const element = def.type === 'array' ? def.element : undefined;
    const choices = defOf(element ?? inner).entries;
    return {
      name,
      flag: `--${kebabCase(name)}`,
      env: `GUILDHALL_${kebabCase(name).replaceAll('-', '_').toUpperCase()}`,
      kind: kindOf(inner),
      itemKind: element === undefined ? null : kindOf(unwrap(element).inner),
      choices: choices === undefined ? null : Object.values(choices),
      nullable,
      secret,
      required,
      default: value,
      description,
    };
  });
}

const BOOLEANS: Record<string, boolean> = {
  true: true,
  '1': true,
  yes: true,
  on: true,
  false: false,
  '0': false,
  no: false,
  off: false,
};

/**
 * Reads the text of a flag or environment variable. Numbers and booleans must be written as such; an array may be
 * a comma list; an empty text is null where that is allowed. Throws `config_invalid` naming `source`.
 */
export function parseOptionText(option: OptionInfo, text: string, source: string): unknown {
  if (text === '' && option.nullable) return null;
  if (option.kind === 'array') {
    const items = text === '' ? [] : text.split(',').map((item) => item.trim());
    return items.map((item) => parseScalar(option, option.itemKind ?? 'string', item, source));
  }
  return parseScalar(option, option.kind, text, source);
}

function parseScalar(option: OptionInfo, kind: OptionKind, text: string, source: string): unknown {
  if (kind === 'number') {
    const value = Number(text);
    if (text.trim() === '' || !Number.isFinite(value))
      throw badValue(option, source, `expected a number, got ${show(option, text)}`);
    return value;
  }
  if (kind === 'boolean') {
    const value = BOOLEANS[text.toLowerCase()];
    if (value === undefined) throw badValue(option, source, `expected true or false, got ${show(option, text)}`);
    return value;
  }
  return text;
}

/** A value as errors may print it. */
export function show(option: OptionInfo, value: unknown): string {
  return option.secret ? '(hidden)' : JSON.stringify(value);
}

export function badValue(option: OptionInfo, source: string, why: string): GuildhallError {
  return fail('config_invalid', `${source}: ${why}`, { field: option.name });
}

/** Edits (insert, delete, replace) between two short words. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replace = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replace, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

/** `, did you mean --x?` when a known name is near, else nothing. */
export function suggest(name: string, known: readonly string[]): string {
  let best: string | null = null;
  let distance = Math.max(2, Math.floor(name.length / 3)) + 1;
  for (const candidate of known) {
    const d = candidate.startsWith(name) && name.length >= 4 ? 1 : editDistance(name, candidate);
    if (d < distance) [best, distance] = [candidate, d];
  }
  return best === null ? '' : `, did you mean ${best}?`;
}

/** Splits a JSON file of options; throws `config_invalid` naming the file. */
export function parseConfigFile(path: string, text: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (err) {
    throw fail('config_invalid', `${path}: not valid JSON: ${errorMessage(err)}`, { field: 'config', cause: err });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw fail('config_invalid', `${path}: expected a JSON object of options`, { field: 'config' });
  }
  return value as Record<string, unknown>;
}
