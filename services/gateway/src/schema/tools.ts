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

/** Field `function_call` of chat requests. */
export const functionChoice = named(
  'FunctionChoice',
  z.union([z.enum(['none', 'auto']), functionName], { error: 'expected "none", "auto" or {"name":…}' }),
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

/** A call in the form of functions. */
export const functionCallAnswer = named(
  'FunctionCall',
  z.object({ name: z.string(), arguments: z.string().describe('A JSON object, as text.') }),
);

/** A piece of it: the first has the name, the pieces of `arguments` join to JSON. */
export const functionCallPiece = named(
  'FunctionCallPiece',
  z.object({ name: z.string().optional(), arguments: z.string() }),
);

interface FunctionRequest extends ToolRequest {
  functions?: readonly { name: string }[] | null | undefined;
  function_call?: z.output<typeof functionChoice> | null | undefined;
}

/** Rules over `functions` and `function_call`: they stand alone, and a choice names a function that there is. */
export function checkFunctions(body: FunctionRequest, ctx: z.RefinementCtx): void {
  const { functions, function_call: choice } = body;
  const names = new Set((functions ?? []).map(({ name }) => name));
  if (names.size > 0 && (body.tools ?? []).length > 0)
    addIssue(ctx, 'invalid_value', 'cannot be combined with tools; use tools alone', ['functions']);
  if (names.size > 0 && body.tool_choice !== null && body.tool_choice !== undefined)
    addIssue(ctx, 'invalid_value', 'cannot be combined with functions; use function_call, or tools', ['tool_choice']);
  if (choice === null || choice === undefined || choice === 'none') return;
  if (names.size === 0) return addIssue(ctx, 'invalid_value', 'needs functions', ['function_call']);
  if (choice !== 'auto' && !names.has(choice.name))
    addIssue(ctx, 'invalid_value', 'names a function that is not among the functions', ['function_call']);
}

/** A message of the assistant says its calls in one form. */
export function checkCallForms(messages: readonly object[], ctx: z.RefinementCtx): void {
  for (const [index, message] of messages.entries()) {
    const { tool_calls: calls, function_call: call } = message as {
      tool_calls?: unknown[] | null;
      function_call?: unknown;
    };
    if ((calls ?? []).length > 0 && call !== null && call !== undefined)
      addIssue(ctx, 'invalid_value', 'cannot be combined with tool_calls', ['messages', index, 'function_call']);
  }
}

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
