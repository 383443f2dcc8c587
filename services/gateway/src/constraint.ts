import { fail } from '@guildhall/common';
import { choiceGrammar, type ConstraintText, grammarText } from '@guildhall/common/grammar';
import type { router } from '@guildhall/proto';
import type { ToolParserName } from './parsers/registry.ts';
import type { ConstraintInput } from './schema/constraint.ts';
import type { ToolFields } from './tools/tool-choice.ts';
import { callRules } from './tools/tool-choice.ts';
import { toolConstraint } from './tools/tool-constraint.ts';

/** What a field asks for, and its name in the request. */
interface Asked {
  field: string;
  constraint: ConstraintText;
}

/** A constraint for the router, and the field to blame if it cannot be compiled there. */
export interface PlannedConstraint {
  constraint: router.Constraint;
  field: string;
}

/** What of a request decides which answers it may get. */
export type ConstrainedRequest = ConstraintInput &
  ToolFields & { min_tokens?: number | null | undefined; ignore_eos?: boolean | null | undefined };

/**
 * What the answer to a request must match; undefined for free text. With tools that may be called, an answer is either
 * calls or what the other fields ask for; forced calls leave no room for it. Errors name the field: `invalid_value` for
 * fields that exclude each other and grammars that make no sense, `unsupported` for what cannot be enforced.
 * @param afterToken token that ends the think block in which the answer begins; 0 for none.
 */
export function constraintOf(
  body: ConstrainedRequest,
  afterToken: number,
  toolForm?: ToolParserName,
): PlannedConstraint | undefined {
  const asked = askedFor(body);
  if (asked !== null) grammarText(asked.constraint, asked.field);
  const { tools, tool_choice: choice, parallel_tool_calls: parallel } = body;
  const calls = toolConstraint(tools, choice, parallel, toolForm);
  const rules = toolForm === 'none' ? null : callRules(body);
  const planned =
    asked === null
      ? calls && { constraint: calls, field: 'tools' }
      : rules === null
        ? { constraint: ofText(asked.constraint), field: asked.field }
        : rules.mode === 'required' && calls !== undefined
          ? { constraint: calls, field: 'tools' }
          : {
              constraint: either(asked, toolConstraint(rules.tools, 'required', parallel, toolForm)),
              field: asked.field,
            };
  if (planned === undefined) return undefined;
  checkEnds(body, planned.field);
  return { ...planned, constraint: { ...planned.constraint, afterToken } };
}

/** The one field that asks for something, or null. */
function askedFor(body: ConstrainedRequest): Asked | null {
  const all = [...fromFormat(body.response_format), ...fromGuided(body), ...fromStructured(body.structured_outputs)];
  const [first, second] = all;
  if (second !== undefined) {
    const message = `${second.field}: cannot be combined with ${first?.field}: an answer matches one of them`;
    throw fail('invalid_value', message, { field: second.field });
  }
  return first ?? null;
}

function fromFormat(format: ConstraintInput['response_format']): Asked[] {
  if (format === null || format === undefined || format.type === 'text') return [];
  const field = 'response_format';
  if (format.type === 'json_object') return [{ field, constraint: { jsonObject: true } }];
  if (format.type === 'structural_tag') return [{ field, constraint: { structuralTag: JSON.stringify(format) } }];
  const { schema } = format.json_schema;
  if (schema === null || schema === undefined) return [{ field, constraint: { jsonObject: true } }];
  return [{ field: `${field}.json_schema.schema`, constraint: { jsonSchema: JSON.stringify(schema) } }];
}

function fromGuided(body: ConstraintInput): Asked[] {
  const { guided_json: json, guided_regex: regex, guided_choice: choice, guided_grammar: grammar } = body;
  return [
    ...given(json, 'guided_json', (value) => ({ jsonSchema: asText(value) })),
    ...given(regex, 'guided_regex', (value) => ({ regex: value })),
    ...given(choice, 'guided_choice', (value) => ({ grammar: choiceGrammar(value, 'guided_choice') })),
    ...given(grammar, 'guided_grammar', (value) => ({ grammar: value })),
  ];
}

function fromStructured(outputs: ConstraintInput['structured_outputs']): Asked[] {
  if (outputs === null || outputs === undefined) return [];
  const { json, regex, choice, grammar, json_object: object, structural_tag: tag } = outputs;
  const at = 'structured_outputs';
  return [
    ...given(json, `${at}.json`, (value) => ({ jsonSchema: asText(value) })),
    ...given(regex, `${at}.regex`, (value) => ({ regex: value })),
    ...given(choice, `${at}.choice`, (value) => ({ grammar: choiceGrammar(value, `${at}.choice`) })),
    ...given(grammar, `${at}.grammar`, (value) => ({ grammar: value })),
    ...given(object === true ? true : null, `${at}.json_object`, () => ({ jsonObject: true })),
    ...given(tag, `${at}.structural_tag`, (value) => ({ structuralTag: asText(value) })),
  ];
}

function given<T>(value: T | null | undefined, field: string, of: (value: T) => ConstraintText): Asked[] {
  return value === null || value === undefined ? [] : [{ field, constraint: of(value) }];
}

/** A JSON value as text; text is taken to be JSON already. */
function asText(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function ofText({ jsonObject, jsonSchema, regex, grammar, structuralTag }: ConstraintText): router.Constraint {
  const kind: router.Constraint['kind'] =
    jsonSchema !== undefined
      ? { $case: 'jsonSchema', value: jsonSchema }
      : regex !== undefined
        ? { $case: 'regex', value: regex }
        : grammar !== undefined
          ? { $case: 'grammar', value: grammar }
          : structuralTag !== undefined
            ? { $case: 'structuralTag', value: structuralTag }
            : { $case: 'jsonObject', value: jsonObject ?? true };
  return { kind, afterToken: 0, addedTokens: false };
}

/** What was asked for, or calls. */
function either({ field, constraint }: Asked, calls: router.Constraint | undefined): router.Constraint {
  if (calls?.kind?.$case !== 'structuralTag') return ofText(constraint);
  const { jsonObject, jsonSchema, regex, grammar } = constraint;
  const content =
    jsonSchema !== undefined
      ? { type: 'json_schema', json_schema: JSON.parse(jsonSchema) as unknown }
      : jsonObject === true
        ? { type: 'json_schema', json_schema: { type: 'object' } }
        : regex !== undefined
          ? { type: 'regex', pattern: regex }
          : { type: 'grammar', grammar };
  if (constraint.structuralTag !== undefined) {
    throw fail('invalid_value', `${field}: a structural tag cannot be combined with tools`, { field });
  }
  const { format } = JSON.parse(calls.kind.value) as { format: unknown };
  const tag = { type: 'structural_tag', format: { type: 'or', elements: [content, format] } };
  return { ...calls, kind: { $case: 'structuralTag', value: JSON.stringify(tag) } };
}

/** A grammar decides when its answer ends. */
function checkEnds({ min_tokens: least, ignore_eos: ignore }: ConstrainedRequest, field: string): void {
  const other = ignore === true ? 'ignore_eos' : (least ?? 0) > 0 ? 'min_tokens' : null;
  if (other === null) return;
  throw fail('invalid_value', `${other}: cannot be combined with ${field}, which says when an answer ends`, {
    field: other,
  });
}
