import { z } from 'zod';
import { addIssue, ignored, named, optional } from './fields.ts';

/** Limits of items. */
export const ITEM_LIMITS = { items: 4096, parts: 1024, idLength: 128 } as const;

const itemId = z.string().min(1).max(ITEM_LIMITS.idLength);
const status = optional(z.enum(['in_progress', 'completed', 'incomplete']), 'Accepted and ignored.');

/** A part or an item of a kind that is known but not served: recognised, so that the refusal can name it. */
function unserved<T extends string>(type: T, what: string) {
  return z.looseObject({ type: z.literal(type) }).superRefine((_value, ctx) => {
    addIssue(ctx, 'unsupported', `${what} is not supported by this server`, ['type']);
  });
}

const cacheBreakpoint = ignored('prefixes are found by their content.');

const inputText = z.strictObject({
  type: z.literal('input_text'),
  text: z.string(),
  prompt_cache_breakpoint: cacheBreakpoint,
});

const outputText = z.strictObject({
  type: z.literal('output_text'),
  text: z.string(),
  annotations: ignored('they are not part of the text.'),
  logprobs: ignored('they are not part of the text.'),
  parsed: ignored('it is not part of the text.'),
});

const refusalPart = z.strictObject({ type: z.literal('refusal'), refusal: z.string() });

const messagePart = z.discriminatedUnion(
  'type',
  [
    inputText,
    outputText,
    refusalPart,
    z.strictObject({ type: z.literal('text'), text: z.string() }),
    unserved('input_image', 'image input'),
    unserved('input_file', 'file input'),
    unserved('input_audio', 'audio input'),
  ],
  { error: 'expected a part with type "input_text" or "output_text"' },
);

const content = z.union([z.string(), z.array(messagePart).max(ITEM_LIMITS.parts)], {
  error: 'expected a string or an array of text parts',
});

const messageItem = z.strictObject({
  type: z.literal('message'),
  id: optional(itemId, 'Accepted and ignored: a stored item gets an id of its own.'),
  role: z.enum(['user', 'assistant', 'system', 'developer']),
  content,
  status,
  phase: ignored('the template knows of none.'),
});

const functionCall = z.strictObject({
  type: z.literal('function_call'),
  id: optional(itemId, 'Accepted and ignored.'),
  call_id: itemId,
  name: z.string().min(1).max(128),
  arguments: z.string().describe('A JSON object, as text.'),
  status,
  parsed_arguments: ignored('`arguments` says it.'),
  async: ignored('the caller decides when results come.'),
  caller: ignored('calls are the model’s.'),
  namespace: ignored('functions have none.'),
});

const functionCallOutput = z.strictObject({
  type: z.literal('function_call_output'),
  id: optional(itemId, 'Accepted and ignored.'),
  call_id: itemId,
  output: content,
  status,
  name: ignored('the call has it.'),
  namespace: ignored('functions have none.'),
  caller: ignored('calls are the model’s.'),
});

const reasoningItem = z.strictObject({
  type: z.literal('reasoning'),
  id: optional(itemId, 'Accepted and ignored.'),
  summary: optional(
    z.array(z.strictObject({ type: z.literal('summary_text'), text: z.string() })).max(ITEM_LIMITS.parts),
    'Used where there is no content.',
  ),
  content: optional(
    z.array(z.strictObject({ type: z.enum(['reasoning_text', 'text']), text: z.string() })).max(ITEM_LIMITS.parts),
    'Rendered where the template keeps it.',
  ),
  encrypted_content: optional(z.string(), 'As this server gave it; used where there is neither content nor summary.'),
  status,
});

const itemReference = z.strictObject({ type: z.literal('item_reference'), id: itemId });

const UNSERVED = [
  'file_search_call',
  'computer_call',
  'computer_call_output',
  'web_search_call',
  'image_generation_call',
  'code_interpreter_call',
  'local_shell_call',
  'local_shell_call_output',
  'shell_call',
  'shell_call_output',
  'apply_patch_call',
  'apply_patch_call_output',
  'mcp_list_tools',
  'mcp_approval_request',
  'mcp_approval_response',
  'mcp_call',
  'custom_tool_call',
  'custom_tool_call_output',
  'tool_search_call',
  'tool_search_output',
  'additional_tools',
  'configuration_update',
  'compaction',
  'compaction_trigger',
  'program',
  'program_output',
] as const;

const item = z.discriminatedUnion(
  'type',
  [
    messageItem,
    functionCall,
    functionCallOutput,
    reasoningItem,
    itemReference,
    ...UNSERVED.map((type) => unserved(type, `an item of type "${type}"`)),
  ],
  { error: 'expected an item of type "message", "function_call", "function_call_output" or "reasoning"' },
);

/** An item may leave its type out where it has a role, and then is a message. */
function withType(value: unknown): unknown {
  if (typeof value !== 'object' || value === null || 'type' in value || !('role' in value)) return value;
  return { type: 'message', ...value };
}

/** An item of a response's input. */
export const inputItem = named('ResponseInputItem', z.preprocess(withType, item));

export type InputItem = z.output<
  typeof messageItem | typeof functionCall | typeof functionCallOutput | typeof reasoningItem
>;
export type MessageItem = z.output<typeof messageItem>;
export type ItemReference = z.output<typeof itemReference>;

const logprob = z.object({ token: z.string(), logprob: z.number(), bytes: z.array(z.int()).nullable() });

/** Log-probabilities of a text. */
export const textLogprobs = z.array(logprob.extend({ top_logprobs: z.array(logprob) }));

const outputStatus = z.enum(['in_progress', 'completed', 'incomplete']);

const outputTextPart = z.object({
  type: z.literal('output_text'),
  text: z.string(),
  annotations: z.array(z.never()),
  logprobs: textLogprobs,
});

const outputMessage = z.object({
  id: z.string(),
  type: z.literal('message'),
  status: outputStatus,
  role: z.literal('assistant'),
  content: z.array(outputTextPart),
});

const outputCall = z.object({
  id: z.string(),
  type: z.literal('function_call'),
  status: outputStatus,
  call_id: z.string(),
  name: z.string(),
  arguments: z.string(),
});

const outputReasoning = z.object({
  id: z.string(),
  type: z.literal('reasoning'),
  status: outputStatus,
  summary: z.array(z.object({ type: z.literal('summary_text'), text: z.string() })),
  content: z.array(z.object({ type: z.literal('reasoning_text'), text: z.string() })).optional(),
  encrypted_content: z.string().nullable(),
});

/** An item that a response gives. */
export const outputItem = named(
  'ResponseOutputItem',
  z.discriminatedUnion('type', [outputMessage, outputCall, outputReasoning]),
);

export type OutputItem = z.output<typeof outputItem>;
export type OutputMessage = z.output<typeof outputMessage>;
export type OutputCall = z.output<typeof outputCall>;
export type OutputReasoning = z.output<typeof outputReasoning>;
export type OutputTextPart = z.output<typeof outputTextPart>;
export type TextLogprobs = z.output<typeof textLogprobs>;
