import { z } from 'zod';
import { below, isObject } from './schema-keywords.ts';

const text = z.string().min(1);
const schema = z.union([z.boolean(), z.record(z.string(), z.unknown())]);
const repetition = { at_least_one: z.boolean().optional(), stop_after_first: z.boolean().optional() };

const tag = z.strictObject({
  type: z.literal('tag').optional(),
  begin: z.string(),
  get content() {
    return format;
  },
  end: z.string(),
});

const triggeredTags = z
  .strictObject({
    type: z.literal('triggered_tags'),
    triggers: z.array(text).min(1),
    tags: z.array(tag).min(1),
    ...repetition,
  })
  .superRefine(({ triggers, tags }, context) => {
    for (const [i, { begin }] of tags.entries()) {
      const matching = triggers.filter((trigger) => begin.startsWith(trigger)).length;
      if (matching === 1) continue;
      const message = `must begin with exactly one of the triggers; it begins with ${matching}`;
      context.addIssue({ code: 'custom', path: ['tags', i, 'begin'], message });
    }
  });

/** A part of a structural tag, in the forms that the engine takes, and one of this project: a text of one line. */
const format: z.ZodType = z.lazy(() =>
  z.discriminatedUnion('type', [
    z.strictObject({ type: z.literal('const_string'), value: text }),
    z.strictObject({ type: z.literal('json_schema'), json_schema: schema }),
    z.strictObject({ type: z.literal('qwen_xml_parameter'), json_schema: schema }),
    z.strictObject({ type: z.literal('any_text') }),
    z.strictObject({ type: z.literal('grammar'), grammar: text }),
    z.strictObject({ type: z.literal('regex'), pattern: text }),
    z.strictObject({ type: z.literal('line'), schema: z.record(z.string(), z.unknown()) }),
    z.strictObject({ type: z.literal('sequence'), elements: z.array(format).min(1) }),
    z.strictObject({ type: z.literal('or'), elements: z.array(format).min(1) }),
    tag.required({ type: true }),
    triggeredTags,
    z.strictObject({
      type: z.literal('tags_with_separator'),
      tags: z.array(tag).min(1),
      separator: z.string(),
      ...repetition,
    }),
  ]),
);

const structuralTag = z.strictObject({ type: z.literal('structural_tag').optional(), format });

/** The older form: structures and what triggers them. */
const structures = z.strictObject({
  type: z.literal('structural_tag').optional(),
  structures: z.array(z.strictObject({ begin: z.string(), schema, end: z.string() })).min(1),
  triggers: z.array(text).min(1),
});

/** What is wrong with a structural tag in either form, and at which place below `place`; null for nothing. */
export function structuralTagProblem(value: unknown, place: string): { place: string; message: string } | null {
  if (!isObject(value)) return { place, message: 'must be an object' };
  const result = (value['structures'] === undefined ? structuralTag : structures).safeParse(value);
  const [issue] = result.error?.issues ?? [];
  if (issue === undefined) return null;
  const at = issue.path.reduce<string>((path, key) => below(path, typeof key === 'number' ? key : String(key)), place);
  return { place: at.slice(0, 512), message: issue.message };
}
