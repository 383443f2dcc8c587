import { z } from 'zod';
import { addIssue, ignored, named, optional, refused } from './fields.ts';
import { LIMITS, samplingFields } from './sampling.ts';

/** Limits of Anthropic's request fields. */
export const MESSAGE_LIMITS = { messages: 4096, blocks: 4096, idLength: 128 } as const;

const cacheControl = ignored('prefixes are found by their content.');

const textBlock = z.strictObject({
  type: z.literal('text'),
  text: z.string(),
  cache_control: cacheControl,
  citations: ignored('they are not part of the text.'),
  parsed_output: ignored('the text says it.'),
});

/** A block of a kind that is known but not served: recognised, so that the refusal can name it. */
function unserved<T extends string>(type: T, what: string) {
  return z.looseObject({ type: z.literal(type) }).superRefine((_value, ctx) => {
    addIssue(ctx, 'unsupported', `${what} is not supported by this server`, ['type']);
  });
}

const MEDIA = [
  unserved('image', 'image input'),
  unserved('document', 'document input'),
  unserved('search_result', 'a search result'),
] as const;

const toolUseId = z.string().min(1).max(MESSAGE_LIMITS.idLength);

const toolResult = z.strictObject({
  type: z.literal('tool_result'),
  tool_use_id: toolUseId,
  content: optional(
    z.union(
      [
        z.string(),
        z
          .array(
            z.discriminatedUnion(
              'type',
              [
                textBlock,
                ...MEDIA,
                unserved('tool_reference', 'a tool reference'),
                unserved('browser_state', 'a browser state'),
              ],
              { error: 'expected a block with type "text"' },
            ),
          )
          .max(MESSAGE_LIMITS.blocks),
      ],
      { error: 'expected a string or an array of text blocks' },
    ),
    'What the tool gave.',
  ),
  is_error: optional(z.boolean(), 'Shown to the model as "Error: " before the content.'),
  cache_control: cacheControl,
  toolset_name: ignored('tools have no sets.'),
});

const toolUse = z.strictObject({
  type: z.literal('tool_use'),
  id: toolUseId,
  name: z.string().min(1).max(128),
  input: z.record(z.string(), z.unknown()),
  cache_control: cacheControl,
  caller: ignored('calls are the model’s.'),
  toolset_name: ignored('tools have no sets.'),
});

const thinkingBlock = z.strictObject({
  type: z.literal('thinking'),
  thinking: z.string(),
  signature: z
    .string()
    .max(64 << 20)
    .describe('As this server gave it. It is read only where the thinking was left out.'),
});

const redactedThinking = z.strictObject({
  type: z.literal('redacted_thinking'),
  data: z.string().describe('Accepted and ignored: only who made it can read it.'),
});

const SERVER_BLOCKS = [
  'server_tool_use',
  'web_search_tool_result',
  'web_fetch_tool_result',
  'code_execution_tool_result',
  'bash_code_execution_tool_result',
  'text_editor_code_execution_tool_result',
  'tool_search_tool_result',
  'container_upload',
  'mcp_tool_use',
  'mcp_tool_result',
  'compaction',
] as const;

const serverBlocks = SERVER_BLOCKS.map((type) => unserved(type, `a block of type "${type}"`));

const userBlock = z.discriminatedUnion('type', [textBlock, toolResult, ...MEDIA, ...serverBlocks], {
  error: 'expected a block with type "text" or "tool_result"',
});

const assistantBlock = z.discriminatedUnion(
  'type',
  [textBlock, toolUse, thinkingBlock, redactedThinking, ...MEDIA, ...serverBlocks],
  { error: 'expected a block with type "text", "thinking", "redacted_thinking" or "tool_use"' },
);

function contentOf<T extends z.ZodType>(block: T) {
  return z.union([z.string(), z.array(block).max(MESSAGE_LIMITS.blocks)], {
    error: 'expected a string or an array of blocks',
  });
}

const systemContent = contentOf(textBlock);

const messageParam = named(
  'AnthropicMessageParam',
  z.discriminatedUnion(
    'role',
    [
      z.strictObject({ role: z.literal('user'), content: contentOf(userBlock) }),
      z.strictObject({ role: z.literal('assistant'), content: contentOf(assistantBlock) }),
      z.strictObject({ role: z.literal('system'), content: systemContent }),
    ],
    { error: 'expected "user", "assistant" or "system"' },
  ),
);

const tool = z.strictObject({
  type: optional(
    z.literal('custom', {
      error: 'only tools of type "custom" are supported by this server; it has no built-in tools',
    }),
    'May be left out.',
  ),
  name: z.string().regex(/^[\w-]{1,128}$/, 'expected 1 to 128 letters, digits, dashes or underscores'),
  description: optional(z.string(), 'What the tool does.'),
  input_schema: z.record(z.string(), z.unknown()).describe('JSON schema of the input, which is an object.'),
  strict: optional(z.boolean(), 'The input always matches the schema.'),
  cache_control: cacheControl,
  input_examples: ignored('the template has no place for them.'),
  eager_input_streaming: ignored('input is always streamed as it comes.'),
  defer_loading: ignored('all tools are shown to the model.'),
  allowed_callers: ignored('only the model calls.'),
});

const oneAtATime = optional(z.boolean(), 'At most one call.');

const toolChoice = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('auto'), disable_parallel_tool_use: oneAtATime }),
  z.strictObject({ type: z.literal('any'), disable_parallel_tool_use: oneAtATime }),
  z.strictObject({ type: z.literal('tool'), name: z.string().min(1).max(128), disable_parallel_tool_use: oneAtATime }),
  z.strictObject({ type: z.literal('none') }),
]);

const display = optional(
  z.enum(['summarized', 'omitted']),
  '"omitted" leaves the text of thinking out; its signature brings it back. Nothing is shortened.',
);

const thinking = z.discriminatedUnion(
  'type',
  [
    z.strictObject({
      type: z.literal('enabled'),
      budget_tokens: z.int().min(1).max(0x7fffffff).describe('Tokens of thinking; must be less than max_tokens.'),
      display,
    }),
    z.strictObject({ type: z.literal('adaptive'), display }),
    z.strictObject({ type: z.literal('disabled') }),
  ],
  { error: 'expected a type of "enabled", "adaptive" or "disabled"' },
);

const outputFormat = z.strictObject({ type: z.literal('json_schema'), schema: z.record(z.string(), z.unknown()) });

const outputConfig = z.strictObject({
  effort: optional(z.enum(['low', 'medium', 'high', 'xhigh', 'max']), 'Given to the template; "max" as "xhigh".'),
  format: optional(outputFormat, 'The answer matches the schema.'),
  task_budget: ignored('max_tokens limits the answer.'),
});

/** Fields that decide what the model reads; the count of tokens takes the same. */
const promptFields = {
  model: samplingFields.model,
  messages: z.array(messageParam).min(1).max(MESSAGE_LIMITS.messages),
  system: optional(systemContent, 'The system message.'),
  tools: optional(z.array(tool).max(LIMITS.tools), 'Tools that the model may use.'),
  tool_choice: optional(toolChoice, 'Whether it must, and which.'),
  thinking: optional(thinking, 'Default: disabled.'),
  output_config: optional(outputConfig, 'Effort and format.'),
  output_format: optional(outputFormat, 'The older name of output_config.format; not beside it.'),
  cache_control: cacheControl,
  speed: refused('another speed', { harmless: (value) => value === 'standard' }),
  context_management: ignored('nothing is taken out of the messages.'),
};

interface FormatFields {
  output_config?: { format?: unknown } | null | undefined;
  output_format?: unknown;
}

function checkFormats({ output_config: config, output_format: older }: FormatFields, ctx: z.RefinementCtx): void {
  const both = [config?.format, older].every((format) => format !== null && format !== undefined);
  if (both) addIssue(ctx, 'invalid_value', 'cannot be combined with output_config.format', ['output_format']);
}

/** Body of POST /v1/messages. */
export const messagesRequest = named(
  'AnthropicMessagesRequest',
  z
    .strictObject({
      ...promptFields,
      max_tokens: z.int().min(1, 'at least 1; a cache that is only to be filled is not supported').max(0x7fffffff),
      stream: samplingFields.stream,
      stop_sequences: optional(z.array(z.string().min(1).max(1024)).max(LIMITS.stopStrings), 'Each ends the answer.'),
      temperature: optional(z.number().min(0).max(2), "Default: the checkpoint's generation_config, else 1."),
      top_p: samplingFields.top_p,
      top_k: samplingFields.top_k,
      metadata: ignored('callers are told apart by their API key.'),
      service_tier: ignored('there is one tier.'),
      diagnostics: ignored('usage says what was cached.'),
      user_profile_id: ignored('callers are told apart by their API key.'),
      workspace_id: ignored('callers are told apart by their API key.'),
      billing_policy: ignored('nothing is billed.'),
      fallbacks: ignored('no model refuses for another one to take over.'),
      fallback_credit_token: ignored('nothing is billed.'),
      compaction: refused('compaction', { instead: 'send fewer messages' }),
      inference_geo: refused('a place', { harmless: (value) => value === 'global' }),
      container: refused('a container'),
      thread: refused('a thread', {
        instead: 'send all messages, as the tool runner of the client then does by itself',
      }),
      mcp_servers: refused('an MCP server', { harmless: (value) => Array.isArray(value) && value.length === 0 }),
    })
    .superRefine((body, ctx) => {
      checkFormats(body, ctx);
      if (body.thinking?.type === 'enabled' && body.thinking.budget_tokens >= body.max_tokens)
        addIssue(ctx, 'invalid_value', 'must be less than max_tokens', ['thinking', 'budget_tokens']);
    }),
);

/** Body of POST /v1/messages/count_tokens. */
export const countTokensRequest = named(
  'AnthropicCountTokensRequest',
  z.strictObject(promptFields).superRefine(checkFormats),
);

export type MessagesRequest = z.output<typeof messagesRequest>;
export type CountTokensRequest = z.output<typeof countTokensRequest>;

export const tokenCount = named('AnthropicTokenCount', z.object({ input_tokens: z.int() }));

const contentBlock = z.discriminatedUnion('type', [
  z.object({ type: z.literal('text'), text: z.string(), citations: z.null() }),
  z.object({ type: z.literal('thinking'), thinking: z.string(), signature: z.string() }),
  z.object({
    type: z.literal('tool_use'),
    id: z.string(),
    name: z.string(),
    input: z.record(z.string(), z.unknown()),
    caller: z.object({ type: z.literal('direct') }),
  }),
]);

const usage = z.object({
  input_tokens: z.int().describe('Tokens of the prompt that were computed: those from the cache are not among them.'),
  cache_creation_input_tokens: z.int(),
  cache_read_input_tokens: z.int(),
  cache_creation: z.object({ ephemeral_5m_input_tokens: z.int(), ephemeral_1h_input_tokens: z.int() }),
  output_tokens: z.int(),
  output_tokens_details: z.object({ thinking_tokens: z.int() }),
  server_tool_use: z.null(),
  service_tier: z.literal('standard'),
  inference_geo: z.null(),
  speed: z.null(),
});

const stopReason = z.enum(['end_turn', 'max_tokens', 'stop_sequence', 'tool_use', 'model_context_window_exceeded']);

/** A message, in Anthropic's shape. */
export const anthropicMessage = named(
  'AnthropicMessage',
  z.object({
    id: z.string(),
    type: z.literal('message'),
    role: z.literal('assistant'),
    model: z.string(),
    content: z.array(contentBlock),
    stop_reason: stopReason.nullable(),
    stop_sequence: z.string().nullable(),
    stop_details: z.null(),
    container: z.null(),
    diagnostics: z.null(),
    usage,
  }),
);

/** One event of a streamed message. */
export const anthropicEvent = named('AnthropicEvent', z.looseObject({ type: z.string() }));

/** Errors under /v1/messages. */
export const anthropicError = named(
  'AnthropicError',
  z.object({
    type: z.literal('error'),
    error: z.object({
      type: z.string(),
      message: z.string(),
      details: z.object({ error_code: z.string(), unsupported: z.array(z.string()) }).optional(),
    }),
    request_id: z.string(),
  }),
);

export type AnthropicMessage = z.output<typeof anthropicMessage>;
export type AnthropicUsage = z.output<typeof usage>;
export type AnthropicBlock = z.output<typeof contentBlock>;
export type StopReason = z.output<typeof stopReason>;
