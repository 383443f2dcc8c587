import { fail } from '@guildhall/common';
import { router } from '@guildhall/proto';
import type { ToolParserName } from '../parsers/registry.ts';
import { callRules, type ToolChoice } from './tool-choice.ts';
import type { ToolInput } from './tool-table.ts';
import {
  ANY_TYPE,
  isSchema,
  type JsonSchema,
  resolveReference,
  TYPE,
  typesOf,
  type ValueTypes,
} from './value-types.ts';

/** A part of XGrammar's structural tag: text that must come, JSON by a schema, free text up to an end, choices. */
type Format = Readonly<Record<string, unknown>>;

const ANY_TEXT: Format = { type: 'any_text' };
const NOTHING: Format = { type: 'grammar', grammar: 'root ::= ""' };

/** Parameters of any name with any value, none of whose lines begins like an end tag. */
const ANY_PARAMETERS: Format = {
  type: 'grammar',
  grammar: [
    'root ::= parameter*',
    'parameter ::= "<parameter=" [^<>\\n]+ ">\\n" line ("\\n" line)* "\\n</parameter>\\n"',
    // Alternatives that begin alike are merged wrongly by the engine, so at each place at most one goes on.
    'line ::= "" | [^<\\n] rest | "<" line1',
    'line1 ::= "" | [^/\\n] rest | "/" line2',
    'line2 ::= "" | [^p\\n] rest | "p" line3',
    'line3 ::= "" | [^a\\n] rest | "a" line4',
    'line4 ::= "" | [^r\\n] rest',
    'rest ::= [^\\n]*',
  ].join('\n'),
};

const JSON_TYPES: readonly [ValueTypes, string][] = [
  [TYPE.number, 'number'],
  [TYPE.boolean, 'boolean'],
  [TYPE.null, 'null'],
  [TYPE.object, 'object'],
  [TYPE.array, 'array'],
];

/**
 * What the router must hold an answer to, for its calls to be those that the request allows: `required` and named
 * choices are calls and nothing else, `strict` tools have arguments that match their schemas, and a choice of allowed
 * tools leaves out the others. Undefined where the model may write what it likes.
 * @param form in which the model writes calls.
 */
export function toolConstraint(
  tools: readonly ToolInput[] | null | undefined,
  choice: ToolChoice | null | undefined,
  parallel: boolean | null | undefined,
  form: ToolParserName = 'qwen3_xml',
): router.Constraint | undefined {
  const rules = callRules({ tools, tool_choice: choice, parallel_tool_calls: parallel });
  if (rules === null || form === 'none') return undefined;
  const forced = rules.mode === 'required';
  const restricted = rules.tools.length < (tools?.length ?? 0) || rules.tools.some(isStrict);
  if (!forced && !restricted) return undefined;
  const tags = rules.tools.map((tool) => (form === 'hermes' ? hermesCall(tool) : xmlCall(tool)));
  const repeat = { at_least_one: forced, stop_after_first: !rules.parallel };
  const format: Format = forced
    ? { type: 'tags_with_separator', separator: '\n', tags, ...repeat }
    : { type: 'triggered_tags', triggers: ['<tool_call>'], tags, ...repeat };
  return router.Constraint.create({
    kind: { $case: 'structuralTag', value: JSON.stringify({ type: 'structural_tag', format }) },
  });
}

function isStrict(tool: ToolInput): boolean {
  return tool.function.strict === true;
}

/** A call in the form of Qwen3.5, written exactly as its template writes it. */
function xmlCall(tool: ToolInput): Format {
  const begin = `<tool_call>\n<function=${tool.function.name}>\n`;
  return { type: 'tag', begin, content: xmlParameters(tool), end: '</function>\n</tool_call>' };
}

/** A call in the form of Hermes. */
function hermesCall(tool: ToolInput): Format {
  const { name, parameters } = tool.function;
  const schema = isStrict(tool) ? (parameters ?? { type: 'object', properties: {} }) : { type: 'object' };
  return {
    type: 'tag',
    begin: `<tool_call>\n{"name": ${JSON.stringify(name)}, "arguments": `,
    content: { type: 'json_schema', json_schema: schema },
    end: '}\n</tool_call>',
  };
}

/** The declared parameters in their order, those that are not required perhaps; any, where none is declared. */
function xmlParameters(tool: ToolInput): Format {
  const root: JsonSchema = tool.function.parameters ?? {};
  const schema = resolveReference(root, root['$ref']) ?? root;
  const properties = Object.entries(isSchema(schema['properties']) ? schema['properties'] : {});
  if (properties.length === 0) return isStrict(tool) ? NOTHING : ANY_PARAMETERS;
  const required = new Set(Array.isArray(schema['required']) ? schema['required'] : []);
  const elements = properties.map(([key, value]): Format => {
    const content = xmlValue(value, root, isStrict(tool));
    const begin = `<parameter=${key}>\n`;
    const parameter = { type: 'tag', begin, content: withLineEnds(content), end: endOf(content) };
    return required.has(key) ? parameter : { type: 'or', elements: [NOTHING, parameter] };
  });
  return { type: 'sequence', elements };
}

const LINE_END: Format = { type: 'const_string', value: '\n' };

/** Whether a format has its own line break at the end. */
function hasLine({ type, elements }: Format): boolean {
  return type === 'line' || (type === 'or' && (elements as Format[]).some(hasLine));
}

/** Of several forms, either all or none have their line breaks. */
function withLineEnds(format: Format): Format {
  if (format['type'] !== 'or' || !hasLine(format)) return format;
  const elements = (format['elements'] as Format[]).map((element) =>
    hasLine(element) ? withLineEnds(element) : { type: 'sequence', elements: [element, LINE_END] },
  );
  return { ...format, elements };
}

function endOf(content: Format): string {
  return hasLine(content) ? '</parameter>\n' : '\n</parameter>\n';
}

/** A value as the parser reads it back: strings as they are, everything else as JSON. */
function xmlValue(given: unknown, root: JsonSchema, strict: boolean): Format {
  const schema = isSchema(given) ? (resolveReference(root, given['$ref']) ?? given) : {};
  const types = typesOf(given, root);
  const listed = Object.hasOwn(schema, 'const') ? [schema['const']] : schema['enum'];
  if (Array.isArray(listed) && listed.length > 0) {
    const elements = listed.map((value: unknown): Format => {
      return { type: 'const_string', value: typeof value === 'string' ? value : JSON.stringify(value) };
    });
    return elements.length === 1 ? (elements[0] as Format) : { type: 'or', elements };
  }
  if ((types & TYPE.string) === 0) {
    return { type: 'json_schema', json_schema: strict ? withDefinitions(schema, root) : schemaOfTypes(types) };
  }
  return strict ? strictText(schema, types, root) : ANY_TEXT;
}

/** Keywords that say something about strings. */
const STRING_KEYWORDS = ['pattern', 'format', 'minLength', 'maxLength'] as const;

/** A value that may be a string, under the keywords of its schema: one line of text wherever there are any. */
function strictText(schema: JsonSchema, types: ValueTypes, root: JsonSchema): Format {
  const keywords = STRING_KEYWORDS.filter((key) => schema[key] !== undefined);
  if (keywords.length > 0 && types === TYPE.string && schema['allOf'] === undefined) {
    return { type: 'line', schema: Object.fromEntries(keywords.map((key) => [key, schema[key]])) };
  }
  const own = keywords[0] ?? keywordIn(schema['allOf'], root);
  if (own !== undefined) {
    const why = 'of a strict parameter that is more than a string cannot be enforced; put it into a branch of "anyOf"';
    throw fail('unsupported', `tools: keyword "${own}" ${why}`, { field: 'tools' });
  }
  const branches = schema['anyOf'] ?? schema['oneOf'];
  if (!Array.isArray(branches) || keywordIn(branches, root) === undefined) return ANY_TEXT;
  return { type: 'or', elements: branches.map((branch: unknown) => xmlValue(branch, root, true)) };
}

/**
 * A keyword of strings that a list of schemas has somewhere, through the references that they are. A property of such a
 * name has a schema, not a text or number.
 */
function keywordIn(schemas: unknown, root: JsonSchema): string | undefined {
  const list: unknown[] = Array.isArray(schemas) ? schemas : [];
  const found = list.map((schema) => (isSchema(schema) ? (resolveReference(root, schema['$ref']) ?? schema) : schema));
  const text = JSON.stringify(found);
  return STRING_KEYWORDS.find((key) => new RegExp(`"${key}":["0-9]`).test(text));
}

/** A part of a schema that can stand alone: with the definitions that it may refer to. */
function withDefinitions(schema: JsonSchema, root: JsonSchema): JsonSchema {
  const { $defs, definitions } = root;
  return {
    ...schema,
    ...($defs === undefined ? {} : { $defs }),
    ...(definitions === undefined ? {} : { definitions }),
  };
}

function schemaOfTypes(types: ValueTypes): JsonSchema {
  if (types === ANY_TYPE) return {};
  return { type: JSON_TYPES.filter(([type]) => (types & type) !== 0).map(([, name]) => name) };
}
