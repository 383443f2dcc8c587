import { z } from 'zod';
import { addIssue, ignored, named, optional, refused } from './fields.ts';

const textPart = z.strictObject({
  type: z.literal('text'),
  text: z.string(),
  cache_control: ignored('prefixes are found by their content.'),
  prompt_cache_breakpoint: ignored('prefixes are found by their content.'),
});

function mediaPart<T extends string>(type: T, what: string) {
  return z.looseObject({ type: z.literal(type) }).superRefine((_part, ctx) => {
    addIssue(ctx, 'unsupported', `${what} is not supported by this server; only text parts are`, ['type']);
  });
}

/** Parts of a message's content. Media parts are recognised so that the refusal can name them. */
export const contentPart = named(
  'ContentPart',
  z.discriminatedUnion(
    'type',
    [
      textPart,
      mediaPart('image_url', 'image input'),
      mediaPart('image', 'image input'),
      mediaPart('video_url', 'video input'),
      mediaPart('video', 'video input'),
      mediaPart('input_audio', 'audio input'),
      mediaPart('audio_url', 'audio input'),
      mediaPart('file', 'file input'),
      z.strictObject({ type: z.literal('refusal'), refusal: z.string() }),
    ],
    { error: 'expected a content part with type "text"' },
  ),
);

const content = z.union([z.string(), z.array(contentPart).min(1)], {
  error: 'expected a string or an array of text parts',
});

const toolCall = z.strictObject({
  id: z.string(),
  type: z.literal('function'),
  function: z.strictObject({
    name: z.string().min(1),
    arguments: z.string().describe('A JSON object, as text.'),
    parsed_arguments: ignored('`arguments` says it.'),
  }),
  index: ignored('position says it.'),
});

const name = ignored('the template knows roles only.');

/** A message of any role that the template renders. */
export const message = named(
  'ChatMessage',
  z.discriminatedUnion(
    'role',
    [
      z.strictObject({ role: z.literal('system'), content, name }),
      z.strictObject({ role: z.literal('developer'), content, name }).describe('Rendered as a system message.'),
      z.strictObject({ role: z.literal('user'), content, name }),
      z.strictObject({
        role: z.literal('assistant'),
        content: optional(content, 'May be null when there are tool calls.'),
        reasoning_content: optional(z.string(), 'Rendered inside the think block where the template keeps it.'),
        reasoning: optional(z.string(), 'Another name of reasoning_content, which wins.'),
        tool_calls: optional(z.array(toolCall), 'Calls that the model made.'),
        name,
        refusal: ignored('it is not part of the text.'),
        annotations: ignored('they are not part of the text.'),
        parsed: ignored('the content says it.'),
        audio: refused('audio'),
        function_call: optional(
          z.strictObject({ name: z.string().min(1), arguments: z.string().describe('A JSON object, as text.') }),
          'The older form of tool_calls with one call; not beside them.',
        ),
      }),
      z.strictObject({
        role: z.literal('tool'),
        content,
        tool_call_id: optional(z.string(), 'The call answered.'),
        name,
      }),
      z
        .strictObject({ role: z.literal('function'), name: z.string().min(1), content: content.nullable() })
        .describe('The older form of a tool message.'),
    ],
    { error: 'expected one of "system", "developer", "user", "assistant", "tool", "function"' },
  ),
);

const functionFields = {
  name: z.string().regex(/^[\w.-]{1,128}$/, 'expected 1 to 128 letters, digits, dots, dashes or underscores'),
  description: optional(z.string(), 'What the function does.'),
  parameters: optional(z.record(z.string(), z.unknown()), 'JSON schema of the arguments.'),
};

/** A function of the deprecated field `functions`. */
export const functionInput = named('Function', z.strictObject(functionFields));

/** A tool that the template may show to the model. */
export const tool = named(
  'Tool',
  z.strictObject({
    type: z.literal('function', { error: 'only tools of type "function" are supported' }),
    function: z.strictObject({
      ...functionFields,
      strict: optional(z.boolean(), 'Arguments match the schema: the answer is constrained to it.'),
    }),
  }),
);

export type ChatMessage = z.output<typeof message>;
export type ContentPart = z.output<typeof contentPart>;
