/** The model of the scripted router, and that of a real one. */
export const MODEL = 'tiny';
export const REAL_MODEL = 'tiny-real';

const USER = { role: 'user', content: 'Hi' };
const FUNCTION = {
  type: 'function',
  function: { name: 'f', parameters: { type: 'object', properties: { a: { type: 'string' } } } },
};

/** JSON schemas: plain ones, and those that cost a compiler most. */
export const SCHEMAS: readonly unknown[] = [
  { type: 'object', properties: { a: { type: 'string' } }, required: ['a'] },
  { type: 'object', properties: { city: { enum: ['Paris', 'Rome'] }, sure: { type: 'boolean' } } },
  { type: 'array', items: { type: 'integer', minimum: 0, maximum: 99 }, maxItems: 3 },
  { type: 'string', format: 'date-time' },
  { type: 'string', pattern: '^(a+)+$' },
  { type: 'string', pattern: '(((a?){30}){30}){30}' },
  { type: 'number', exclusiveMinimum: 1e-300, maximum: 1e300 },
  { $ref: '#/$defs/t', $defs: { t: { type: 'object', properties: { next: { $ref: '#/$defs/t' } } } } },
  { $ref: '#/$defs/t', $defs: { t: { $ref: '#/$defs/t' } } },
  { $ref: '#' },
  { $ref: 'https://example.com/schema.json' },
  { anyOf: [{ type: 'null' }, { allOf: [{ type: 'object' }, { required: ['a'] }] }] },
  { not: {} },
  { enum: [] },
  { const: '\ud800' },
  { type: 'object', properties: Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`p${i}`, {}])) },
  { type: 'object', properties: { ['__proto__']: { type: 'string' }, constructor: { type: 'string' } } },
  { type: 'object', patternProperties: { '^x': { type: 'string' } }, additionalProperties: false },
  { type: 'string', minLength: 4096, maxLength: 100_000 },
  true,
  {},
];

const REGEXES = [
  '[a-z]+',
  '(yes|no)',
  '\\d{3}-\\d{4}',
  '(a+)+$',
  '(.*){10}',
  '[^\\x00-\\uffff]',
  '(?=a)b',
  '\\1',
  '(',
  'é|東京',
];
const GRAMMARS = [
  'root ::= "yes" | "no"',
  'root ::= item+\nitem ::= [a-z] | "(" root ")"',
  'root ::= root "a" | "a"',
  'root ::= root',
  'root ::= other',
  'start ::= "a"',
  'root ::= [^\\x00]*',
  'root ::= "a"{1000000}',
  '',
];
const TAGS: readonly unknown[] = [
  { type: 'structural_tag', structures: [{ begin: '<f>', schema: {}, end: '</f>' }], triggers: ['<f>'] },
  { type: 'structural_tag', format: { type: 'const_string', value: 'ok' } },
  { type: 'structural_tag', format: { type: 'any_text' } },
];

/** Fields that have an answer compiled into what it must match. */
export const CONSTRAINTS: readonly object[] = [
  ...SCHEMAS.map((schema) => ({ guided_json: schema })),
  ...REGEXES.map((regex) => ({ guided_regex: regex })),
  ...GRAMMARS.map((grammar) => ({ guided_grammar: grammar })),
  ...TAGS.map((tag) => ({ structured_outputs: { structural_tag: JSON.stringify(tag) } })),
  { guided_choice: ['yes', 'no', '東京', '\ud800'] },
  { response_format: { type: 'json_object' } },
];

const MESSAGES: readonly unknown[] = [
  [USER],
  [{ role: 'system', content: 'Be short.' }, USER],
  [USER, { role: 'assistant', content: 'Yes?' }, { role: 'user', content: [{ type: 'text', text: 'More' }] }],
];

const CHAT_MESSAGES: readonly unknown[] = [
  ...MESSAGES,
  [
    USER,
    {
      role: 'assistant',
      content: null,
      reasoning_content: 'Hm',
      tool_calls: [{ id: 'c', type: 'function', function: { name: 'f', arguments: '{"a":"x"}' } }],
    },
    { role: 'tool', tool_call_id: 'c', content: 'done' },
  ],
];

const CLAUDE_MESSAGES: readonly unknown[] = [
  [USER],
  [USER, { role: 'assistant', content: [{ type: 'text', text: 'Yes?' }] }, { role: 'user', content: 'More' }],
  [
    USER,
    { role: 'assistant', content: [{ type: 'tool_use', id: 'toolu_1', name: 'f', input: { a: 'x' } }] },
    { role: 'user', content: [{ type: 'tool_result', tool_use_id: 'toolu_1', content: 'done' }] },
  ],
];

/** Right values of fields whose schema does not give them away, for every operation. */
const OF_FIELD: Readonly<Record<string, readonly unknown[]>> = {
  model: [MODEL],
  n: [1, 1, 2],
  best_of: [2, 3],
  max_tokens: [1, 16, 64],
  max_completion_tokens: [1, 16, 64],
  max_output_tokens: [16, 64],
  prompt_logprobs: [0, 1],
  priority: [0],
  arguments: ['{"a":"x"}', '{}'],
  input: ['Hi', [{ role: 'user', content: 'Hi' }], [{ type: 'message', role: 'user', content: 'Hi' }]],
  prompt: ['Hi', ['a', 'b'], [5, 6, 7], [[5], [6, 7]]],
  tokens: [[1, 2, 3], []],
  schema: SCHEMAS,
  parameters: SCHEMAS,
  input_schema: SCHEMAS,
  guided_json: SCHEMAS,
  guided_regex: REGEXES,
  guided_grammar: GRAMMARS,
  guided_choice: [['yes', 'no'], ['a', 'a'], ['\ud800'], ['東京']],
  json: SCHEMAS,
  regex: REGEXES,
  grammar: GRAMMARS,
  structural_tag: TAGS.map((tag) => JSON.stringify(tag)),
  response_format: [{ type: 'json_object' }, { type: 'text' }, ...TAGS],
  logit_bias: [{ 5: -100, 6: 100 }, {}],
  stop: ['x', ['x', 'y']],
  stop_token_ids: [[5]],
  request_id: ['fuzz-1'],
  metadata: [{ key: 'value' }, {}],
  completion_window: ['24h'],
};

/** Further ones, where fields of the same name differ. */
const OF_PATH: Readonly<Record<string, Readonly<Record<string, readonly unknown[]>>>> = {
  '/v1/messages': {
    messages: CLAUDE_MESSAGES,
    tools: [[{ name: 'f', input_schema: { type: 'object' } }]],
    input: [{ a: 'x' }],
  },
  '/v1/messages/count_tokens': { messages: CLAUDE_MESSAGES, input: [{ a: 'x' }] },
  '/v1/responses': { tools: [[{ type: 'function', name: 'f', parameters: { type: 'object' }, strict: false }]] },
};
const OF_CHAT: Readonly<Record<string, readonly unknown[]>> = { messages: CHAT_MESSAGES, tools: [[FUNCTION]] };

/** Right values of a field of an operation's body, or null where the schema is enough. */
export function knownValues(path: string, field: string): readonly unknown[] | null {
  const isChat = OF_PATH[path] === undefined;
  const own = (isChat ? OF_CHAT : (OF_PATH[path] ?? {}))[field];
  return own ?? (Object.hasOwn(OF_FIELD, field) ? (OF_FIELD[field] ?? null) : null);
}
