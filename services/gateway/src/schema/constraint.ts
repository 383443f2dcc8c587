import { z } from 'zod';
import { ignored, named, optional, refused } from './fields.ts';

/** Limits of a list of choices. */
const MAX_CHOICES = 1024;
const MAX_CHOICE_LENGTH = 4096;
const MAX_TEXT_LENGTH = 256 * 1024;

const jsonSchema = z.record(z.string(), z.unknown());
const text = z.string().min(1).max(MAX_TEXT_LENGTH);
const schemaOrText = z.union([jsonSchema, text, z.boolean()]);
const choices = z.array(z.string().min(1).max(MAX_CHOICE_LENGTH)).min(1).max(MAX_CHOICES);
const tagOrText = z.union([z.record(z.string(), z.unknown()), text]);

const responseFormat = named(
  'ResponseFormat',
  z.discriminatedUnion('type', [
    z.strictObject({ type: z.literal('text') }),
    z.strictObject({ type: z.literal('json_object') }).describe('A JSON object; the prompt need not ask for one.'),
    z.strictObject({
      type: z.literal('json_schema'),
      json_schema: z.strictObject({
        name: z.string().min(1).max(64).optional(),
        description: z.string().nullish(),
        schema: jsonSchema.nullish().describe('Without it: any JSON object.'),
        strict: z.boolean().nullish().describe('The answer matches the schema whatever this says.'),
      }),
    }),
    z.looseObject({ type: z.literal('structural_tag') }).describe("XGrammar's structural tag, in either of its forms."),
  ]),
);

const structuredOutputs = z.strictObject({
  json: optional(schemaOrText, 'A JSON schema.'),
  regex: optional(text, 'A regular expression that the whole answer matches.'),
  choice: optional(choices, 'Texts, one of which is the answer.'),
  grammar: optional(text, 'A grammar in GBNF whose start rule is root.'),
  json_object: optional(z.boolean(), 'Any JSON object.'),
  structural_tag: optional(tagOrText, "XGrammar's structural tag."),
  disable_fallback: ignored('there is one engine.'),
  disable_any_whitespace: ignored('white space is bounded.'),
  whitespace_pattern: refused('a pattern for white space'),
});

/** Fields that say what an answer must match; at most one of them. */
export const constraintFields = {
  response_format: optional(responseFormat, 'What the answer must be: text (the default), JSON, or JSON by a schema.'),
  guided_json: optional(schemaOrText, 'A JSON schema for the answer, as an object or as text.'),
  guided_regex: optional(text, 'A regular expression that the whole answer matches.'),
  guided_choice: optional(choices, 'Texts, one of which is the answer.'),
  guided_grammar: optional(text, 'A grammar in GBNF for the answer; its start rule is root.'),
  guided_decoding_backend: ignored('there is one engine.'),
  guided_whitespace_pattern: refused('a pattern for white space'),
  structured_outputs: optional(structuredOutputs, "vLLM's newer form of the guided_* fields."),
};

type Fields = z.output<z.ZodObject<typeof constraintFields>>;
/** Of a request, what its answer must match. */
export type ConstraintInput = Partial<Fields>;
