import { z } from 'zod';
import { checkTemplate, templateFields } from './chat.ts';
import { addIssue, named, optional } from './fields.ts';
import { message } from './messages.ts';
import { tokenIdsField } from './prompt.ts';
import { LIMITS } from './sampling.ts';

/** Body of POST /tokenize: either a prompt or messages. */
export const tokenizeRequest = named(
  'TokenizeRequest',
  z
    .strictObject({
      model: optional(z.string().min(1).max(256), 'A served model name.'),
      prompt: optional(z.string(), 'Text to tokenize.'),
      messages: optional(z.array(message).min(1).max(LIMITS.messages), 'Messages to render and tokenize.'),
      ...templateFields,
      add_special_tokens: optional(
        z.boolean(),
        'Let the tokenizer add its own tokens. Default: true for a prompt, false for messages.',
      ),
      return_token_strs: optional(z.boolean(), 'Return the text of each token too.'),
    })
    .superRefine((body, ctx) => {
      checkTemplate(body, ctx);
      const hasPrompt = body.prompt !== null && body.prompt !== undefined;
      const hasMessages = body.messages !== null && body.messages !== undefined;
      if (hasPrompt && hasMessages) addIssue(ctx, 'invalid_value', 'cannot be combined with messages', ['prompt']);
      if (!hasPrompt && !hasMessages)
        addIssue(ctx, 'missing_field', 'is required unless there are messages', ['prompt']);
    }),
);

/** Answer of POST /tokenize. */
export const tokenizeResponse = named(
  'TokenizeResponse',
  z.object({
    count: z.int(),
    max_model_len: z.int(),
    tokens: z.array(z.int()),
    token_strs: z.array(z.string()).nullable(),
  }),
);

/** Body of POST /detokenize. */
export const detokenizeRequest = named(
  'DetokenizeRequest',
  z.strictObject({ model: optional(z.string().min(1).max(256), 'A served model name.'), tokens: tokenIdsField }),
);

/** Answer of POST /detokenize. */
export const detokenizeResponse = named('DetokenizeResponse', z.object({ prompt: z.string() }));

export type TokenizeRequest = z.output<typeof tokenizeRequest>;
