import { fail, type GuildhallError } from '../errors.ts';
import { deterministicText, type RuleWriter } from './automaton.ts';
import { Effort, EffortError } from './effort.ts';
import { jsonObjectGrammar, jsonSchemaGrammar, lineGrammar, MAX_SCHEMA_BYTES } from './json-schema.ts';
import { choice, textNode } from './nodes.ts';
import { MAX_REGEX_LENGTH, MAX_REPEAT, parseRegex, RegexError, type RegexNode, regexSize } from './regex.ts';
import {
  asSchema,
  below,
  isObject,
  type JsonSchema,
  KEYWORDS_OF_TYPE,
  SchemaError,
  type SchemaObject,
  unsupported,
} from './schema-keywords.ts';
import { lengthsIn, type StringLengths } from './string-lengths.ts';
import { structuralTagProblem } from './structural-tag.ts';

/** What an answer must match, in one of these ways; as the router's proto has it. */
export interface ConstraintText {
  jsonObject?: boolean | undefined;
  jsonSchema?: string | undefined;
  regex?: string | undefined;
  grammar?: string | undefined;
  structuralTag?: string | undefined;
}

/** What the grammar engine compiles. */
export interface GrammarText {
  kind: 'ebnf' | 'structural_tag';
  text: string;
  /** What must be counted for it; null for nothing. */
  lengths: StringLengths | null;
}

export const MAX_GRAMMAR_BYTES = 256 * 1024;
/** Brackets within brackets of a grammar, and values within values of a structural tag. */
const MAX_NESTING = 128;
/** Characters of all choices of a list. */
const MAX_CHOICE_LENGTH = 64 * 1024;

/**
 * The text to compile for a constraint. Errors name `field`: `unsupported` for what cannot be enforced, `invalid_value` for
 * what makes no sense.
 */
export function grammarText(constraint: ConstraintText, field: string): GrammarText {
  return named(field, () => textOf(constraint, field));
}

/** Runs what writes a grammar; its errors name the field. */
function named<T>(field: string, write: () => T): T {
  try {
    return write();
  } catch (err) {
    if (err instanceof EffortError) throw fail('unsupported', `${field}: ${err.message}`, { field });
    if (err instanceof SchemaError) throw fail(err.code, err.message, { field });
    if (err instanceof RegexError)
      throw fail('invalid_value', `${field}: regular expression, ${err.message}`, { field });
    // What is written from an enum or a default is as deep as the request made it.
    if (err instanceof RangeError) throw invalid(field, 'is nested too deeply');
    throw err;
  }
}

function textOf(constraint: ConstraintText, field: string): GrammarText {
  const { jsonObject, jsonSchema, regex, grammar, structuralTag } = constraint;
  if (jsonObject === true) return ebnf(jsonObjectGrammar());
  if (jsonSchema !== undefined) {
    const schema = parseJson(jsonSchema, MAX_SCHEMA_BYTES, field);
    const lengths = lengthsIn(schema, field);
    return ebnf(jsonSchemaGrammar(asSchema(schema, field), field, new Effort(), lengths), lengths);
  }
  if (regex !== undefined) return ebnf(regexGrammar(checkedSize(regex, 4 * MAX_REGEX_LENGTH, field)));
  if (grammar !== undefined) return ebnf(checkedGrammar(grammar, field));
  if (structuralTag !== undefined) {
    const tag = parseJson(structuralTag, MAX_GRAMMAR_BYTES, field);
    const problem = structuralTagProblem(tag, field);
    if (problem !== null) throw invalid(problem.place, problem.message);
    const lengths = lengthsIn(tag, field);
    const budget = { effort: new Effort(), lengths };
    return { kind: 'structural_tag', text: JSON.stringify(withGrammars(currentForm(tag), field, 0, budget)), lengths };
  }
  throw invalid(field, 'says nothing that an answer could match');
}

function ebnf(text: string, lengths: StringLengths | null = null): GrammarText {
  return { kind: 'ebnf', text, lengths };
}

function invalid(field: string, message: string): GuildhallError {
  return fail('invalid_value', `${field}: ${message}`, { field });
}

function checkedSize(text: string, most: number, field: string): string {
  const bytes = Buffer.byteLength(text);
  if (bytes > most) throw invalid(field, `has ${bytes} bytes, at most ${most} are allowed`);
  return text;
}

function parseJson(text: string, most: number, field: string): unknown {
  checkedSize(text, most, field);
  try {
    return JSON.parse(text) as unknown;
  } catch {
    throw invalid(field, 'is not JSON');
  }
}

/** A grammar's nesting is bounded, since its parser recurses. */
function checkedGrammar(grammar: string, field: string): string {
  checkedSize(grammar, MAX_GRAMMAR_BYTES, field);
  if (grammar.trim() === '') throw invalid(field, 'is empty');
  let depth = 0;
  for (const char of grammar) {
    if (char === '(') depth += 1;
    else if (char === ')') depth -= 1;
    if (depth > MAX_NESTING) throw invalid(field, `brackets are nested more than ${MAX_NESTING} deep`);
  }
  return grammar;
}

/** Tags in the older form, a list of structures and their triggers, in the form that the engine takes. */
function currentForm(tag: unknown): unknown {
  if (!isObject(tag) || !Array.isArray(tag['structures'])) return tag;
  const tags = (tag['structures'] as unknown[]).map((entry) => {
    const { begin, schema, end } = isObject(entry) ? entry : {};
    return { type: 'tag', begin, content: { type: 'json_schema', json_schema: schema }, end };
  });
  return { type: 'structural_tag', format: { type: 'triggered_tags', triggers: tag['triggers'], tags } };
}

/** What the schemas within a tag share. */
interface WholeTag {
  effort: Effort;
  lengths: StringLengths | null;
}

/** Schemas and expressions within a tag become grammars, so that the same rules hold in it as outside. */
function withGrammars(value: unknown, place: string, depth: number, whole: WholeTag): unknown {
  if (depth > MAX_NESTING) throw invalid(place.slice(0, 256), `is nested more than ${MAX_NESTING} deep`);
  if (Array.isArray(value)) return value.map((entry, i) => withGrammars(entry, below(place, i), depth + 1, whole));
  if (!isObject(value)) return value;
  if (value['type'] === 'json_schema' && value['json_schema'] !== undefined) {
    const { effort, lengths } = whole;
    const schema = value['json_schema'] as JsonSchema;
    const grammar = jsonSchemaGrammar(schema, below(place, 'json_schema'), effort, lengths);
    return { type: 'grammar', grammar };
  }
  if (value['type'] === 'regex' && typeof value['pattern'] === 'string') {
    return { type: 'grammar', grammar: regexGrammar(value['pattern'], whole.effort) };
  }
  if (value['type'] === 'line' && isObject(value['schema'])) {
    const { effort, lengths } = whole;
    return { type: 'grammar', grammar: lineGrammar(value['schema'], below(place, 'schema'), effort, lengths) };
  }
  // What XGrammar writes from a schema by itself is not looked into here, and it leaves out keywords of strings.
  if (value['type'] === 'qwen_xml_parameter') return withoutStringKeywords(value, place);
  return Object.fromEntries(
    Object.entries(value).map(([key, entry]) => [key, withGrammars(entry, below(place, key), depth + 1, whole)]),
  );
}

/** A property of such a name has a schema, not a text or number. */
function withoutStringKeywords(value: SchemaObject, place: string): SchemaObject {
  const schema = value['json_schema'];
  const keyword = (KEYWORDS_OF_TYPE.string ?? []).find((key) =>
    new RegExp(`"${key}":["0-9]`).test(JSON.stringify(schema)),
  );
  if (keyword === undefined) return value;
  const why = 'is not enforced in qwen_xml_parameter; use "tools" with "strict", or a tag for each parameter';
  throw unsupported(below(place, 'json_schema'), keyword, why);
}

/** The grammar of texts that match a regular expression as a whole. */
function regexGrammar(pattern: string, effort = new Effort()): string {
  const nodes = parseRegex(pattern).map(({ node }) => node);
  if (nodes.reduce((sum, node) => sum + regexSize(node), 0) > MAX_REPEAT) {
    throw new RegexError(`its repetitions make more than ${MAX_REPEAT} steps`);
  }
  return regularGrammar(choice(...nodes), effort);
}

/** The grammar of a list of texts, one of which is the answer. Throws `unsupported` naming `field` where they are too much. */
export function choiceGrammar(choices: readonly string[], field: string): string {
  const distinct = [...new Set(choices)];
  const length = distinct.reduce((sum, text) => sum + text.length, 0);
  if (length > MAX_CHOICE_LENGTH)
    throw fail('unsupported', `${field}: has ${length} characters, at most ${MAX_CHOICE_LENGTH} are allowed`, {
      field,
    });
  return named(field, () => regularGrammar(choice(...distinct.map(textNode)), new Effort()));
}

function regularGrammar(node: RegexNode, effort: Effort): string {
  const rules: string[] = [];
  const writer: RuleWriter = {
    effort,
    reserve: () => `r${rules.push('') - 1}`,
    define: (name, text) => (rules[Number(name.slice(1))] = text),
  };
  const root = deterministicText([{ node, rest: '' }], writer);
  return [`root ::= ${root}`, ...rules.map((text, i) => `r${i} ::= ${text}`), ''].join('\n');
}
