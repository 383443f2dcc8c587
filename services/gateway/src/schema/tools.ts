import { z } from 'zod';
import type { ToolInput } from '../tools/tool-table.ts';
import { namesAllowed, type ToolChoice } from '../tools/tool-choice.ts';
import { addIssue, named } from './fields.ts';

const functionName = z.strictObject({ name: z.string().min(1).max(128) });
const namedFunction = z.strictObject({ type: z.literal('function'), function: functionName });
const allowedTools = z.strictObject({
  type: z.literal('allowed_tools'),
  allowed_tools: z.strictObject({
    mode: z.enum(['auto', 'required']),
    tools: z.array(namedFunction).min(1).max(1024),
  }),
});

/** Field `tool_choice` of chat requests. */
export const toolChoice = named(
  'ToolChoice',
  z.union([z.enum(['none', 'auto', 'required']), namedFunction, allowedTools], {
    error: 'expected "none", "auto", "required", {"type":"function",…} or {"type":"allowed_tools",…}',
  }),
);

/** A call as answers carry it. */
export const toolCallAnswer = named(
  'ToolCall',
  z.object({
    id: z.string(),
    type: z.literal('function'),
    function: z.object({ name: z.string(), arguments: z.string().describe('A JSON object, as text.') }),
  }),
);

/** A piece of a call in a chunk: the first has id and name, the pieces of `arguments` join to JSON. */
export const toolCallPiece = named(
  'ToolCallPiece',
  z.object({
    index: z.int(),
    id: z.string().optional(),
    type: z.literal('function').optional(),
    function: z.object({ name: z.string().optional(), arguments: z.string() }),
  }),
);

interface ToolRequest {
  tools?: readonly ToolInput[] | null | undefined;
  tool_choice?: ToolChoice | null | undefined;
}

/** Rules over `tools` and `tool_choice`: a forced call needs tools, and a choice names tools that there are. */
export function checkTools({ tools, tool_choice: choice }: ToolRequest, ctx: z.RefinementCtx): void {
  if (choice === null || choice === undefined || choice === 'none' || choice === 'auto') return;
  const names = new Set((tools ?? []).map((tool) => tool.function.name));
  if (names.size === 0) return addIssue(ctx, 'invalid_value', 'needs tools', ['tool_choice']);
  if (namesAllowed(choice).some((name) => !names.has(name)))
    addIssue(ctx, 'invalid_value', 'names a function that is not among the tools', ['tool_choice']);
}
