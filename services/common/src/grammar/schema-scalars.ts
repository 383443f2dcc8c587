import { deterministicText, type RuleWriter } from './automaton.ts';
import { ALL_CHARS, intersect, literal } from './ebnf.ts';
import { integerRange } from './integer-range.ts';
import { charNode, choice, digits, inJson, optionally, quoted, repeat, sequence, textNode } from './nodes.ts';
import { MAX_REPEAT, parseRegex, type RegexBranch, RegexError, type RegexNode, regexSize } from './regex.ts';
import { countOf, invalid, type SchemaObject, unsupported } from './schema-keywords.ts';
import { STRING_FORMATS } from './string-formats.ts';
import { EMPTY_STRING, LINE, LINE_CHARS, type StringRules } from './string-lengths.ts';

/** Digits after the point of a number with bounds: so few that rounding does not carry one over its bound. */
const FRACTION = sequence(charNode(0x2e), digits(1, 6));
const NONZERO_FRACTION = sequence(charNode(0x2e), digits(0, 5), charNode(0x31, 0x39));
const ANY_CHAR: RegexNode = { kind: 'chars', set: ALL_CHARS };

/** What writes strings, those of bounded lengths too. */
export interface StringWriter extends RuleWriter {
  /** Null where no length is counted. */
  readonly strings: StringRules | null;
}

/** What the keywords of a schema say about strings. */
interface StringKeywords {
  least: number;
  most: number | null;
  /** Whether there are bounds at all. */
  bounded: boolean;
  /** What `pattern` or `format` says, and which of them. */
  node: RegexNode | null;
  keyword: 'pattern' | 'format';
}

function stringKeywords(schema: SchemaObject, path: string): StringKeywords {
  const least = countOf(schema, 'minLength', path, 0);
  const most = countOf(schema, 'maxLength', path, null);
  if (most !== null && most < least) throw invalid(path, 'maxLength', 'is less than minLength');
  const { pattern, format } = schema;
  const keyword = pattern === undefined ? 'format' : 'pattern';
  if (pattern !== undefined && format !== undefined) {
    throw unsupported(path, 'format', 'cannot be combined with "pattern"');
  }
  const expression = pattern ?? format;
  if (expression !== undefined && typeof expression !== 'string') throw invalid(path, keyword, 'must be a string');
  const nodeOf = keyword === 'pattern' ? patternNode : formatNode;
  const node = expression === undefined ? null : nodeOf(expression, path);
  if (node !== null && most === 0) throw unsupported(path, 'maxLength', `of 0 cannot be combined with "${keyword}"`);
  return { least, most, bounded: least > 0 || most !== null, node, keyword };
}

/** Text of strings under the keywords of a schema. */
export function stringText(schema: SchemaObject, path: string, rules: StringWriter): string {
  const { least, most, bounded, node, keyword } = stringKeywords(schema, path);
  const { strings } = rules;
  if (most === 0) return EMPTY_STRING;
  if (node === null) {
    if (strings === null) return 'string';
    return bounded ? strings.bounded(least, most) : strings.unbounded();
  }
  if (strings === null || !bounded) return written(quoted(inJson(node)), '', path, keyword, rules);
  return named(path, keyword, () => strings.matching(inJson(node), least, most));
}

/** Text of a string that is written as a line of its own, up to and with the line break at its end. */
export function lineText(schema: SchemaObject, path: string, rules: StringWriter): string {
  const { least, most, bounded, node, keyword } = stringKeywords(schema, path);
  const { strings } = rules;
  const line = node === null ? repeat({ kind: 'chars', set: LINE_CHARS }, 0, null) : inLine(node);
  if (most === 0) return literal('\n');
  if (strings === null || !bounded) return written(sequence(line, textNode('\n')), '', path, keyword, rules);
  if (node === null) return strings.bounded(least, most, LINE);
  return named(path, keyword, () => strings.matching(line, least, most, LINE));
}

/** What of an expression is one line. */
function inLine(node: RegexNode): RegexNode {
  switch (node.kind) {
    case 'chars':
      return { kind: 'chars', set: intersect(node.set, LINE_CHARS) };
    case 'sequence':
      return { kind: 'sequence', items: node.items.map(inLine) };
    case 'choice':
      return { kind: 'choice', options: node.options.map(inLine) };
    case 'repeat':
    case 'counted':
      return { ...node, item: inLine(node.item) };
    case 'byte':
      return node;
  }
}

/** The text of a node, which may turn out too large. */
function written(node: RegexNode, rest: string, path: string, keyword: string, rules: RuleWriter): string {
  return named(path, keyword, () => deterministicText([{ node, rest }], rules));
}

function named(path: string, keyword: string, write: () => string): string {
  try {
    return write();
  } catch (err) {
    if (err instanceof RegexError) throw unsupported(path, keyword, err.message);
    throw err;
  }
}

function branches(pattern: string, path: string, keyword: string): RegexBranch[] {
  try {
    const parsed = parseRegex(pattern);
    if (parsed.reduce((sum, { node }) => sum + regexSize(node), 0) <= MAX_REPEAT) return parsed;
    throw new RegexError(`its repetitions make more than ${MAX_REPEAT} steps`);
  } catch (err) {
    if (err instanceof RegexError) throw unsupported(path, keyword, err.message);
    throw err;
  }
}

/** An expression of JSON Schema is looked for anywhere in the string unless it says where. */
function patternNode(pattern: string, path: string): RegexNode {
  const around = repeat(ANY_CHAR, 0, null);
  const options = branches(pattern, path, 'pattern').map(({ node, anchoredStart, anchoredEnd }) =>
    sequence(...(anchoredStart ? [] : [around]), node, ...(anchoredEnd ? [] : [around])),
  );
  return choice(...options);
}

function formatNode(format: string, path: string): RegexNode {
  const pattern = Object.hasOwn(STRING_FORMATS, format) ? STRING_FORMATS[format] : undefined;
  if (pattern === undefined) {
    const known = Object.keys(STRING_FORMATS).join(', ');
    throw unsupported(path, 'format', `may be ${known}; "${format.slice(0, 64)}" is not enforced`);
  }
  return choice(...parseRegex(pattern).map(({ node }) => node));
}

interface Bounds {
  low: number | null;
  lowOpen: boolean;
  high: number | null;
  highOpen: boolean;
}

function boundOf(schema: SchemaObject, key: string, path: string): number | null {
  const value = schema[key];
  if (value === undefined) return null;
  if (typeof value === 'number' && Number.isFinite(value)) return value;
  throw invalid(path, key, 'must be a number');
}

/** The tighter of the two ways to say each bound. */
function boundsOf(schema: SchemaObject, path: string): Bounds {
  const [low, above] = [boundOf(schema, 'minimum', path), boundOf(schema, 'exclusiveMinimum', path)];
  const [high, under] = [boundOf(schema, 'maximum', path), boundOf(schema, 'exclusiveMaximum', path)];
  const lowOpen = above !== null && (low === null || above >= low);
  const highOpen = under !== null && (high === null || under <= high);
  return { low: lowOpen ? above : low, lowOpen, high: highOpen ? under : high, highOpen };
}

function checkMultiple(schema: SchemaObject, path: string, isInteger: boolean): void {
  const { multipleOf } = schema;
  if (multipleOf === undefined || (isInteger && multipleOf === 1)) return;
  throw unsupported(path, 'multipleOf');
}

/** Text of integers under the keywords of a schema. */
export function integerText(schema: SchemaObject, path: string, rules: RuleWriter): string {
  checkMultiple(schema, path, true);
  const { low, lowOpen, high, highOpen } = boundsOf(schema, path);
  if (low === null && high === null) return 'integer';
  const from = low === null ? null : lowOpen ? Math.floor(low) + 1 : Math.ceil(low);
  const to = high === null ? null : highOpen ? Math.ceil(high) - 1 : Math.floor(high);
  const options = integerRange(from === null ? null : BigInt(from), to === null ? null : BigInt(to));
  if (options.length === 0) throw invalid(path, 'minimum', 'leaves no integer below the maximum');
  return written(choice(...options), '', path, 'minimum', rules);
}

/** Text of numbers under the keywords of a schema; bounds are whole numbers. */
export function numberText(schema: SchemaObject, path: string, rules: RuleWriter): string {
  checkMultiple(schema, path, false);
  const bounds = boundsOf(schema, path);
  const { low, lowOpen, high, highOpen } = bounds;
  if (low === null && high === null) return 'number';
  const keys = ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum'];
  const odd = keys.find(
    (key) =>
      schema[key] !== undefined && !(Number.isSafeInteger(schema[key]) && Math.abs(schema[key] as number) <= 1e9),
  );
  if (odd !== undefined) throw unsupported(path, odd, 'of a number must be a whole number up to 1e9');
  const options: RegexNode[] = [];
  if (high === null || high >= 0) {
    const least = low === null || low < 0 ? 0 : low;
    options.push(...positive(least, lowOpen && low === least, high, highOpen));
  }
  if (low === null || low < 0) {
    const least = high === null || high > 0 ? 0 : -high;
    options.push(
      ...positive(least, highOpen && high === -least, low === null ? null : -low, lowOpen).map((number) =>
        sequence(textNode('-'), number),
      ),
    );
  }
  if (options.length === 0) throw invalid(path, 'minimum', 'leaves no number below the maximum');
  return written(choice(...options), '', path, 'minimum', rules);
}

/** Numbers from `low` to `high`, neither negative: whole ones with a fraction, and the ends. */
function positive(low: number, lowOpen: boolean, high: number | null, highOpen: boolean): RegexNode[] {
  const inside = integerRange(BigInt(lowOpen ? low + 1 : low), high === null ? 10n ** 9n : BigInt(high) - 1n);
  const options = inside.map((number) => sequence(number, optionally(FRACTION)));
  if (lowOpen && (high === null || low < high)) options.push(sequence(textNode(String(low)), NONZERO_FRACTION));
  if (high !== null && !highOpen && (low < high || (low === high && !lowOpen))) options.push(textNode(String(high)));
  return options;
}
