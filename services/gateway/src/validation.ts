import { fail, isErrorCode, type ErrorCode, type GuildhallError } from '@guildhall/common';
import type { FastifySchemaCompiler } from 'fastify';
import type { z } from 'zod';

type Issue = z.core.$ZodIssue;

/** `messages[0].content`, as OpenAI writes it; null for the body itself. */
export function paramName(path: readonly PropertyKey[]): string | null {
  let text = '';
  for (const key of path) text += typeof key === 'number' ? `[${key}]` : text === '' ? String(key) : `.${String(key)}`;
  return text === '' ? null : text;
}

function lookUp(data: unknown, path: readonly PropertyKey[]): unknown {
  let at = data;
  for (const key of path) at = (at as Record<PropertyKey, unknown> | null | undefined)?.[key];
  return at;
}

// A union reports every branch; the one that got furthest into the value is the one that was meant.
function unionIssue(issue: Issue & { code: 'invalid_union' }): Issue {
  const depth = (branch: Issue[]): number => Math.max(0, ...branch.map((inner) => inner.path.length));
  const inside = ([first]: Issue[]): boolean => first?.code !== 'invalid_type' || first.path.length > 0;
  const best = issue.errors.filter(inside).toSorted((a, b) => depth(b) - depth(a))[0];
  const first = best?.[0];
  return first === undefined ? issue : { ...first, path: [...issue.path, ...first.path] };
}

function codeOf(issue: Issue, data: unknown): ErrorCode {
  if (issue.code === 'custom' && isErrorCode(issue.params?.['code'])) return issue.params['code'];
  if (issue.code === 'unrecognized_keys') return 'unknown_field';
  if (lookUp(data, issue.path) === undefined) return 'missing_field';
  if (issue.code !== 'invalid_type' && issue.code !== 'invalid_union') return 'invalid_value';
  return issue.code === 'invalid_type' || issue.errors.length > 0 ? 'invalid_type' : 'invalid_value';
}

function lowerFirst(text: string): string {
  return text.charAt(0).toLowerCase() + text.slice(1);
}

function textOf(issue: Issue, code: ErrorCode, param: string | null): string {
  if (code === 'missing_field') return `${param ?? 'the body'} is required`;
  if (code === 'unknown_field') return `unknown field: ${param}`;
  return `${param ?? 'the body'}: ${lowerFirst(issue.message)}`;
}

/** The first thing wrong with a request body or query, with the field's name. Values are never quoted: they may be private. */
export function validationError(error: z.core.$ZodError, data: unknown): GuildhallError {
  let issue = error.issues[0];
  while (issue?.code === 'invalid_union') {
    const inner = unionIssue(issue);
    if (inner === issue) break;
    issue = inner;
  }
  if (issue === undefined) return fail('invalid_value', 'the request is not valid');
  const path = issue.code === 'unrecognized_keys' ? [...issue.path, issue.keys[0] ?? ''] : issue.path;
  const code = codeOf(issue, data);
  const param = paramName(path);
  return fail(code, textOf(issue, code, param), { field: param });
}

/** Arrays that may be long; their own schema walks them once. */
const LONG_ARRAYS: ReadonlySet<string> = new Set(['prompt', 'tokens']);
const MAX_VALUES = 200_000;
const MAX_DEPTH = 64;

/**
 * Refuses bodies with absurdly many or deeply nested values before the schemas see them: schemas collect an issue per
 * wrong element, so that a few megabytes of zeros would become a gigabyte of issues. Throws `invalid_value`.
 */
export function assertModestShape(body: unknown): void {
  let values = 0;
  const walk = (value: unknown, depth: number, field: string | null): void => {
    if (typeof value !== 'object' || value === null) return;
    if (depth > MAX_DEPTH)
      throw fail('invalid_value', `${field ?? 'the body'}: nested more than ${MAX_DEPTH} deep`, { field });
    const items = Array.isArray(value) ? value : Object.values(value);
    values += items.length;
    if (values > MAX_VALUES)
      throw fail('invalid_value', `${field ?? 'the body'}: more than ${MAX_VALUES} values`, { field });
    for (const item of items) walk(item, depth + 1, field);
  };
  if (typeof body !== 'object' || body === null || Array.isArray(body)) return;
  for (const [field, value] of Object.entries(body)) if (!LONG_ARRAYS.has(field)) walk(value, 1, field);
}

/** Fastify validator over zod schemas whose errors come from the registry. */
export const zodValidatorCompiler: FastifySchemaCompiler<z.ZodType> =
  ({ schema, httpPart }) =>
  (data: unknown) => {
    try {
      if (httpPart === 'body') assertModestShape(data);
    } catch (err) {
      return { error: err as GuildhallError };
    }
    const result = schema.safeParse(data);
    return result.success ? { value: result.data } : { error: validationError(result.error, data) };
  };
