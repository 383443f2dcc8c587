import { z } from 'zod';
import { addIssue, ignored, isEmptyArray, named, optional, refused } from './fields.ts';
import { inputItem, ITEM_LIMITS, outputItem } from './response-items.ts';
import { LIMITS, samplingFields } from './sampling.ts';

const MAX_METADATA = 16;
const TEXT_IDS = /^resp_[0-9a-f]{32}$/;

/** Ids of responses. */
export const responseId = z.string().regex(TEXT_IDS, 'expected the id of a response: resp_ and 32 hex digits');

const metadata = z
  .record(z.string().max(64), z.string().max(512))
  .refine((value) => Object.keys(value).length <= MAX_METADATA, `at most ${MAX_METADATA} entries`);

const functionName = z
  .string()
  .regex(/^[\w.-]{1,128}$/, 'expected 1 to 128 letters, digits, dots, dashes or underscores');

const functionTool = z.strictObject({
  type: z.literal('function', {
    error: 'only tools of type "function" are supported by this server; it has no built-in tools',
  }),
  name: functionName,
  description: optional(z.string(), 'What the function does.'),
  parameters: optional(z.record(z.string(), z.unknown()), 'JSON schema of the arguments.'),
  strict: optional(z.boolean(), 'Whether the arguments must match the schema.'),
  defer_loading: ignored('all tools are shown to the model.'),
  output_schema: ignored('results are texts.'),
  allowed_callers: ignored('only the model calls.'),
  async: ignored('the caller decides when results come.'),
});

const allowedTool = z.strictObject({ type: z.literal('function'), name: functionName });

const toolChoice = z.union(
  [
    z.enum(['none', 'auto', 'required']),
    z.strictObject({ type: z.literal('function'), name: functionName }),
    z.strictObject({
      type: z.literal('allowed_tools'),
      mode: z.enum(['auto', 'required']),
      tools: z.array(allowedTool).min(1).max(LIMITS.tools),
    }),
  ],
  { error: 'expected "none", "auto", "required", a function or allowed_tools' },
);

const textFormat = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('text') }),
  z.strictObject({ type: z.literal('json_object') }),
  z.strictObject({
    type: z.literal('json_schema'),
    name: z.string().regex(/^[\w-]{1,64}$/, 'expected 1 to 64 letters, digits, dashes or underscores'),
    description: optional(z.string(), 'What the format is for.'),
    schema: z.record(z.string(), z.unknown()),
    strict: optional(z.boolean(), 'The answer always matches the schema.'),
  }),
]);

const text = z.strictObject({
  format: optional(textFormat, 'Default: plain text.'),
  verbosity: optional(z.enum(['low', 'medium', 'high']), 'Accepted and ignored: the models know of none.'),
});

const EFFORTS = ['none', 'minimal', 'low', 'medium', 'high', 'xhigh', 'max'] as const;
const SUMMARIES = ['auto', 'concise', 'detailed'] as const;

const reasoning = z.strictObject({
  effort: optional(
    z.enum(EFFORTS),
    '"none" turns thinking off; other values are given to the template; "max" as "xhigh".',
  ),
  summary: optional(z.enum(SUMMARIES), 'Give the thinking as the summary instead of the content; it is not shortened.'),
  generate_summary: optional(z.enum(SUMMARIES), 'The older name of summary.'),
  context: ignored('the template decides which thinking it keeps.'),
  mode: ignored('there is one.'),
});

const INCLUDES = [
  'message.output_text.logprobs',
  'reasoning.encrypted_content',
  'file_search_call.results',
  'web_search_call.results',
  'web_search_call.action.sources',
  'message.input_image.image_url',
  'computer_call_output.output.image_url',
  'code_interpreter_call.outputs',
] as const;

const include = z.array(z.enum(INCLUDES)).max(64);

/** Fields that decide what the model reads; the count of tokens takes the same. */
const promptFields = {
  model: samplingFields.model,
  input: z.union([z.string(), z.array(inputItem).min(1).max(ITEM_LIMITS.items)], {
    error: 'expected a string or an array of items',
  }),
  instructions: optional(z.string(), 'The system message of this response; those before had their own.'),
  previous_response_id: optional(responseId, 'A stored response that is over, to go on from.'),
  tools: optional(z.array(functionTool).max(LIMITS.tools), 'Functions that the model may call.'),
  tool_choice: optional(toolChoice, 'Whether it must, and which.'),
  parallel_tool_calls: optional(z.boolean(), 'Whether it may call several at once. Default true.'),
  reasoning: optional(reasoning, 'How it thinks, and how that is shown.'),
  text: optional(text, 'The format of the answer.'),
  truncation: optional(z.enum(['auto', 'disabled']), '"auto" drops the oldest turns that the context cannot hold.'),
  conversation: refused('a conversation', { instead: 'use previous_response_id' }),
};

/** Body of POST /v1/responses. */
export const responseRequest = named(
  'ResponseRequest',
  z
    .strictObject({
      ...promptFields,
      stream: optional(z.boolean(), 'Send the response as server-sent events.'),
      stream_options: optional(
        z.strictObject({ include_obfuscation: ignored('no padding is sent.') }),
        'Only with stream.',
      ),
      background: optional(z.boolean(), 'Answer at once, and generate after that. Needs store.'),
      store: optional(z.boolean(), 'Keep the response, to be asked for and to go on from. Default true.'),
      include: optional(include, 'Log-probabilities of texts; thinking in a form to send back.'),
      max_output_tokens: optional(z.int().min(1).max(0x7fffffff), 'Thinking counts. Default: what the context leaves.'),
      temperature: samplingFields.temperature,
      top_p: samplingFields.top_p,
      top_k: samplingFields.top_k,
      min_p: samplingFields.min_p,
      seed: samplingFields.seed,
      ignore_eos: samplingFields.ignore_eos,
      min_tokens: samplingFields.min_tokens,
      top_logprobs: optional(
        z.int().min(0).max(LIMITS.topLogprobs),
        'Alternatives per token, with the log-probabilities.',
      ),
      metadata: optional(metadata, 'Up to 16 texts, kept with the response.'),
      service_tier: samplingFields.service_tier,
      cache_salt: samplingFields.cache_salt,
      priority: samplingFields.priority,
      user: ignored('callers are told apart by their API key.'),
      safety_identifier: ignored('callers are told apart by their API key.'),
      prompt_cache_key: ignored('prefixes are found by their content.'),
      prompt_cache_retention: ignored('prefixes are found by their content.'),
      prompt_cache_options: ignored('prefixes are found by their content.'),
      max_tool_calls: optional(
        z.int().min(1).max(0x7fffffff),
        'Returned and ignored: it limits built-in tools, of which there are none.',
      ),
      context_management: refused('context management', { harmless: isEmptyArray, instead: 'use truncation' }),
      prompt: refused('a stored prompt', { instead: 'send its text' }),
      moderation: refused('moderation'),
      access_programs: refused('an access program'),
      image: ignored('there are no images.'),
    })
    .superRefine((body, ctx) => {
      if (body.background === true && body.store === false)
        addIssue(ctx, 'invalid_value', 'needs store, or nobody could ask for what it gives', ['background']);
      if (body.stream !== true && body.stream_options !== null && body.stream_options !== undefined)
        addIssue(ctx, 'invalid_value', 'only allowed when stream is true', ['stream_options']);
    }),
);

export type ResponseRequest = z.output<typeof responseRequest>;

/** Body of POST /v1/responses/input_tokens. */
export const inputTokensRequest = named('ResponseInputTokensRequest', z.strictObject(promptFields));
export type InputTokensRequest = z.output<typeof inputTokensRequest>;
export const inputTokens = named(
  'ResponseInputTokens',
  z.object({ object: z.literal('response.input_tokens'), input_tokens: z.int() }),
);

export const responseParams = z.object({ response_id: z.string().max(128) });

const flag = z.enum(['true', 'false']);

/** Query of GET /v1/responses/{id}. The official clients write lists with brackets. */
export const responseQuery = z.strictObject({
  stream: flag.optional().describe('Send the events from the first one on.'),
  starting_after: z.coerce.number().int().min(0).optional().describe('Only the events after this sequence_number.'),
  include: z.unknown().optional().describe('Accepted and ignored: a response has what was asked for when it was made.'),
  'include[]': z.unknown().optional().describe('The same.'),
  include_obfuscation: z.unknown().optional().describe('Accepted and ignored: no padding is sent.'),
});

/** Query of GET /v1/responses/{id}/input_items. */
export const itemsQuery = z.strictObject({
  after: z.string().max(ITEM_LIMITS.idLength).optional().describe('Id of the last item of the page before.'),
  limit: z.coerce.number().int().min(1).max(100).default(20),
  order: z.enum(['asc', 'desc']).default('desc'),
  include: z.unknown().optional().describe('Accepted and ignored.'),
  'include[]': z.unknown().optional().describe('Accepted and ignored.'),
});

const usage = z.object({
  input_tokens: z.int(),
  input_tokens_details: z.object({ cached_tokens: z.int(), cache_write_tokens: z.int() }),
  output_tokens: z.int(),
  output_tokens_details: z.object({ reasoning_tokens: z.int() }),
  total_tokens: z.int(),
});

export type ResponseUsage = z.output<typeof usage>;

const status = z.enum(['completed', 'failed', 'in_progress', 'cancelled', 'queued', 'incomplete']);
export type ResponseStatus = z.output<typeof status>;

/** A response, in OpenAI's shape. */
export const response = named(
  'Response',
  z.object({
    id: z.string(),
    object: z.literal('response'),
    created_at: z.int(),
    completed_at: z.int().nullable(),
    status,
    background: z.boolean(),
    error: z.object({ code: z.string(), message: z.string() }).nullable(),
    incomplete_details: z.object({ reason: z.enum(['max_output_tokens', 'content_filter']) }).nullable(),
    instructions: z.string().nullable(),
    max_output_tokens: z.int().nullable(),
    max_tool_calls: z.int().nullable(),
    access_programs: z.null(),
    model: z.string(),
    output: z.array(outputItem),
    parallel_tool_calls: z.boolean(),
    previous_response_id: z.string().nullable(),
    prompt_cache_key: z.string().nullable(),
    reasoning: z.object({ effort: z.enum(EFFORTS).nullable(), summary: z.enum(SUMMARIES).nullable() }),
    safety_identifier: z.string().nullable(),
    service_tier: z.string(),
    store: z.boolean(),
    temperature: z.number(),
    text: z.object({ format: z.looseObject({ type: z.string() }), verbosity: z.string() }),
    tool_choice: z.union([z.string(), z.looseObject({ type: z.string() })]),
    tools: z.array(z.looseObject({ type: z.literal('function'), name: z.string() })),
    top_logprobs: z.int(),
    top_p: z.number(),
    truncation: z.enum(['auto', 'disabled']),
    usage: usage.nullable(),
    user: z.string().nullable(),
    metadata: z.record(z.string(), z.string()),
  }),
);

export type ResponseObject = z.output<typeof response>;

/** One event of a streamed response. */
export const responseEvent = named(
  'ResponseEvent',
  z.looseObject({ type: z.string(), sequence_number: z.int().describe('Grows by one with each event.') }),
);

export const deletedResponse = named(
  'DeletedResponse',
  z.object({ id: z.string(), object: z.literal('response'), deleted: z.literal(true) }),
);

export const responseItemList = named(
  'ResponseItemList',
  z.object({
    object: z.literal('list'),
    data: z.array(z.looseObject({ type: z.string(), id: z.string() })),
    first_id: z.string().nullable(),
    last_id: z.string().nullable(),
    has_more: z.boolean(),
  }),
);

export function isResponseId(id: string): boolean {
  return TEXT_IDS.test(id);
}
