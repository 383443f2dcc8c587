import { type Branch, deterministicText } from './automaton.ts';
import { ALL_CHARS, times } from './ebnf.ts';
import { inJson, quoted, repeat, textNode } from './nodes.ts';
import type { RegexNode } from './regex.ts';
import { asSchema, below, countOf, invalid, isObject, type SchemaObject, unsupported } from './schema-keywords.ts';
import type { StringWriter } from './schema-scalars.ts';

/** What writes the schemas within a schema. */
export interface SchemaWriter extends StringWriter {
  /** Text of the values of a schema. */
  value(schema: unknown, path: string): string;
  /** Gives a text a name. */
  rule(text: string): string;
}

/** Bounds of how many items an array has. */
const MAX_ITEMS = 1_000_000;

interface Member {
  key: RegexNode;
  value: string;
  required: boolean;
}

/** Keys of further properties; a named one is told from them by coming first among the alternatives. */
const ANY_KEY = quoted(inJson(repeat({ kind: 'chars', set: ALL_CHARS }, 0, null)));

/**
 * Text of objects: the properties in the schema's order, the required ones always, then further ones where they are
 * allowed. Without additionalProperties there are no further ones, unless no property is named at all.
 */
export function objectText(schema: SchemaObject, path: string, writer: SchemaWriter): string {
  const properties = propertiesOf(schema, path);
  const required = requiredOf(schema, path);
  const extra = extraValue(schema, path, properties, writer);
  const members: Member[] = Object.entries(properties).map(([name, value]) => ({
    key: keyNode(name),
    value: writer.value(value, below(below(path, 'properties'), name)),
    required: required.has(name),
  }));
  for (const name of required) {
    if (Object.hasOwn(properties, name)) continue;
    if (extra === null) throw invalid(path, 'required', `names "${name.slice(0, 64)}", which "properties" lacks`);
    members.push({ key: keyNode(name), value: extra, required: true });
  }
  checkCounts(schema, path, members, extra);
  return `"{" ws ${membersText(members, extra, writer)} "}"`;
}

function keyNode(name: string): RegexNode {
  return textNode(JSON.stringify(name.toWellFormed()));
}

function propertiesOf(schema: SchemaObject, path: string): SchemaObject {
  const properties = schema['properties'] ?? {};
  if (isObject(properties)) return properties;
  throw invalid(path, 'properties', 'must be an object');
}

function requiredOf(schema: SchemaObject, path: string): Set<string> {
  const required = schema['required'] ?? [];
  if (Array.isArray(required) && required.every((name) => typeof name === 'string')) return new Set(required);
  throw invalid(path, 'required', 'must be a list of names');
}

/** Text of values of further properties; null where there are none. */
function extraValue(schema: SchemaObject, path: string, properties: SchemaObject, writer: SchemaWriter): string | null {
  const missing = Object.keys(properties).length === 0;
  const extra = asSchema(schema['additionalProperties'] ?? missing, below(path, 'additionalProperties'));
  return extra === false ? null : writer.value(extra, below(path, 'additionalProperties'));
}

function checkCounts(schema: SchemaObject, path: string, members: readonly Member[], extra: string | null): void {
  const least = countOf(schema, 'minProperties', path, 0);
  const most = countOf(schema, 'maxProperties', path, Infinity);
  if (least > members.filter(({ required }) => required).length) {
    throw unsupported(path, 'minProperties', 'may be at most the number of required properties');
  }
  if (most !== Infinity && (extra !== null || most < members.length)) {
    throw unsupported(
      path,
      'maxProperties',
      'needs additionalProperties to be false and may not be less than the properties',
    );
  }
}

/**
 * Members with commas between them, whichever of the optional ones are there. At each place the keys that may come next
 * are told apart character by character.
 */
function membersText(members: readonly Member[], extra: string | null, writer: SchemaWriter): string {
  const further = extra === null ? null : furtherMembers(members, extra, writer);
  // Text after each member: what may follow it.
  const bodies: string[] = [];
  let after = further === null ? '' : `(comma ${further})?`;
  let first = further === null ? '' : `${further}?`;
  for (let i = members.length - 1; i >= 0; i--) {
    const { value } = members[i] as Member;
    bodies[i] = writer.rule(`colon ${value} gap ${after}`);
    const next = nextMembers(
      members,
      bodies,
      i,
      extra === null ? null : membersBody(extra, further as string, writer),
      writer,
    );
    const isRequired = members.slice(i).some(({ required }) => required);
    after = isRequired ? `comma ${next}` : `(comma ${next})?`;
    first = isRequired ? next : `${next}?`;
  }
  return first;
}

function membersBody(extra: string, further: string, writer: SchemaWriter): string {
  return writer.rule(`colon ${extra} ws (comma ${further})?`);
}

/** One or more further members. */
function furtherMembers(members: readonly Member[], extra: string, writer: SchemaWriter): string {
  const name = writer.reserve();
  const body = writer.rule(`colon ${extra} ws (comma ${name})?`);
  // Named keys may not come again: where one has been written there is no way on.
  const branches: Branch[] = [...members.map(({ key }) => ({ node: key, rest: null })), { node: ANY_KEY, rest: body }];
  writer.define(name, deterministicText(branches, writer));
  return name;
}

/** Members that may come at a place: the next ones up to the first required one, further ones where there is none. */
function nextMembers(
  members: readonly Member[],
  bodies: readonly string[],
  from: number,
  extraBody: string | null,
  writer: SchemaWriter,
): string {
  const end = members.findIndex(({ required }, i) => i >= from && required);
  const branches: Branch[] = members
    .slice(from, end < 0 ? undefined : end + 1)
    .map(({ key }, i) => ({ node: key, rest: bodies[from + i] as string }));
  if (end < 0 && extraBody !== null) {
    const named = members.slice(0, from).map(({ key }) => ({ node: key, rest: null }));
    branches.push(...named, { node: ANY_KEY, rest: extraBody });
  }
  return writer.rule(deterministicText(branches, writer));
}

/** Text of arrays: all of prefixItems, then items as often as the bounds allow. */
export function arrayText(schema: SchemaObject, path: string, writer: SchemaWriter): string {
  const least = countOf(schema, 'minItems', path, 0);
  const most = countOf(schema, 'maxItems', path, null);
  checkItems(schema, path, least, most);
  const first = prefixOf(schema, path).slice(0, most ?? undefined);
  const prefix = first.map((item, i) => `${writer.value(item, below(below(path, 'prefixItems'), i))} gap`);
  const items = asSchema(schema['items'] ?? first.length === 0, below(path, 'items'));
  const from = Math.max(0, least - prefix.length);
  const to = items === false ? 0 : most === null ? null : most - prefix.length;
  if (to !== null && to < from) throw invalid(path, 'minItems', 'asks for more items than there can be');
  const head = prefix.join(' comma ');
  if (to === 0 || items === false) return `"[" ws ${head} "]"`;
  const item = `${writer.value(items, below(path, 'items'))} gap`;
  const further = (min: number, max: number | null): string => repeated(writer.rule(`comma ${item}`), min, max, writer);
  if (prefix.length > 0) return `"[" ws ${head} ${further(from, to)} "]"`;
  const rest = to === 1 ? '' : further(Math.max(0, from - 1), to === null ? null : to - 1);
  const all = `${item} ${rest}`;
  return `"[" ws ${from === 0 ? `(${all})?` : all} "]"`;
}

/** Repetitions that are written one after the other. */
const MAX_WRITTEN = 4;

/**
 * `min` to `max` times a rule, null for no end, in a number of rules that grows with the logarithm: the engine writes
 * large repetitions out, and makes masks for each.
 */
function repeated(rule: string, min: number, max: number | null, writer: SchemaWriter): string {
  const exact = new Map<number, string>([[1, rule]]);
  const exactly = (count: number): string => {
    if (count <= MAX_WRITTEN) return Array<string>(count).fill(rule).join(' ');
    const known = exact.get(count);
    if (known !== undefined) return known;
    const name = writer.rule(`${exactly(Math.ceil(count / 2))} ${exactly(Math.floor(count / 2))}`);
    exact.set(count, name);
    return name;
  };
  const most = new Map<number, string>();
  // Either fewer than half of them or half of them and some more: how many there are decides which.
  const atMost = (count: number): string => {
    if (count <= MAX_WRITTEN) return times(rule, 0, count);
    const known = most.get(count);
    if (known !== undefined) return known;
    const half = Math.ceil(count / 2);
    const name = writer.rule(`${exactly(half)} ${atMost(count - half)} | ${atMost(half - 1)}`);
    most.set(count, name);
    return name;
  };
  if (max === null) return `${exactly(min)} ${rule}*`;
  return `${exactly(min)} ${max > min ? atMost(max - min) : ''}`;
}

function prefixOf(schema: SchemaObject, path: string): readonly unknown[] {
  const prefix = schema['prefixItems'] ?? [];
  if (Array.isArray(prefix)) return prefix;
  throw invalid(path, 'prefixItems', 'must be a list of schemas');
}

function checkItems(schema: SchemaObject, path: string, least: number, most: number | null): void {
  if (most !== null && most < least) throw invalid(path, 'maxItems', 'is less than minItems');
  if (schema['uniqueItems'] === true) throw unsupported(path, 'uniqueItems');
  if (Array.isArray(schema['items'])) throw unsupported(path, 'items', 'as a list is not supported; use "prefixItems"');
  for (const [key, value] of [
    ['minItems', least],
    ['maxItems', most ?? 0],
  ] as const) {
    if (value > MAX_ITEMS) throw unsupported(path, key, `may be at most ${MAX_ITEMS}`);
  }
}
