import { z } from 'zod';
import { addIssue } from './fields.ts';
import { LIMITS } from './sampling.ts';

/** A prompt: text, or token ids. */
export type Prompt = string | number[];

/** What `prompt` may be. */
export type PromptInput = string | string[] | number[] | number[][];

const TOKEN_IDS = { type: 'array', items: { type: 'integer', minimum: 0 } } as const;

function isTokenId(value: unknown): boolean {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 0x7fffffff;
}

/** Position of the first element that is no token id, or -1. */
export function firstBadId(ids: readonly unknown[]): number {
  return ids.findIndex((id) => !isTokenId(id));
}

// By hand and not as a union: a union would collect an issue per element and branch, and an array may have a
// million elements.
function checkPrompt(value: unknown, ctx: z.RefinementCtx): void {
  if (typeof value === 'string') {
    if (value === '') addIssue(ctx, 'invalid_value', 'must not be empty');
    return;
  }
  if (!Array.isArray(value))
    return addIssue(ctx, 'invalid_type', 'expected a string, an array of strings, token ids, or an array of token ids');
  if (value.length === 0) return addIssue(ctx, 'invalid_value', 'must not be empty');
  if (typeof value[0] === 'number') return checkIds(value, ctx, []);
  if (value.length > LIMITS.prompts) return addIssue(ctx, 'invalid_value', `at most ${LIMITS.prompts} prompts`);
  for (const [i, item] of value.entries()) {
    const sameKind = typeof item === typeof value[0] && Array.isArray(item) === Array.isArray(value[0]);
    if (!sameKind || (typeof item !== 'string' && !Array.isArray(item))) {
      return addIssue(ctx, 'invalid_type', 'expected all strings or all arrays of token ids', [i]);
    }
    if (item.length === 0) return addIssue(ctx, 'invalid_value', 'must not be empty', [i]);
    if (Array.isArray(item) && firstBadId(item) >= 0) return checkIds(item, ctx, [i]);
  }
}

function checkIds(ids: unknown[], ctx: z.RefinementCtx, path: PropertyKey[]): void {
  const at = firstBadId(ids);
  if (at >= 0) addIssue(ctx, 'invalid_type', 'expected a token id, an integer of 0 or more', [...path, at]);
}

/** The `prompt` field of completions. */
export const promptField = z
  .custom<PromptInput>((value) => value !== undefined)
  .superRefine(checkPrompt)
  .meta({
    description: 'A text, several texts, token ids, or several arrays of token ids.',
    anyOf: [
      { type: 'string' },
      { type: 'array', items: { type: 'string' } },
      TOKEN_IDS,
      { type: 'array', items: TOKEN_IDS },
    ],
  });

/** A field that holds token ids and may be long. */
export const tokenIdsField = z
  .custom<number[]>((value) => value !== undefined)
  .superRefine((value: unknown, ctx) => {
    if (!Array.isArray(value)) return addIssue(ctx, 'invalid_type', 'expected an array of token ids');
    checkIds(value, ctx, []);
  })
  .meta({ description: 'Token ids.', ...TOKEN_IDS });

/** The prompts of a request, one by one; none when the input is not a prompt at all. */
export function promptList(input: PromptInput): Prompt[] {
  if (typeof input === 'string') return [input];
  if (!Array.isArray(input)) return [];
  if (typeof input[0] === 'number') return [input as number[]];
  return input as Prompt[];
}
