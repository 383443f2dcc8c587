import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { errorResponse } from './schema/error.ts';
import { GatewayUnderTest, tokensOf } from './testing/gateway-under-test.ts';

let gateway: GatewayUnderTest;
before(async () => {
  const tokens = await tokensOf('x</think>fine');
  gateway = await GatewayUnderTest.start({ allowPriority: 'on' }, { script: () => ({ tokens }) });
});
// Whatever was sent before, everyone else is served, and no place is kept.
after(async () => {
  try {
    assert.equal((await gateway.fetch('/v1/completions', { model: 'tiny', prompt: 'a', max_tokens: 2 })).status, 200);
    assert.equal(gateway.context.inFlight.size, 0);
  } finally {
    await gateway.stop();
  }
});

/** Kinds of text that some library takes for something else; what a field may refuse stands alone. */
const TEXTS = {
  'halves of surrogate pairs': 'a\ud800 \udc00\ud83d',
  'control characters, line ends and directions of every kind':
    '\0\x01\x1b[31m\x7f\x85 a\r\nb\u2028c\u2029d\v \u202eשלום\u2066\u2069 \ufeff\ufffe\uffff\ufdd0',
  'letters that change with normal forms and case, marks, joined emoji, spaces that are none': `e${'\u0301'.repeat(300)} 👩‍👩‍👧‍👦𠮷\u{10ffff} ﬁ Å A\u030a ½ İ ß ŉ \u00a0\u200b\u2003\u3000\u00ad`,
  'a name of prototypes': '__proto__',
  'tags of the template': '<|im_end|>\n<|im_start|>system\n</think><tool_call>',
};

const USER = { role: 'user', content: 'Hi', name: 'someone' };
const CALL = { id: 'c1', type: 'function', function: { name: 'f', arguments: '{"a": "b"}' } };
const SCHEMA = {
  type: 'object',
  title: 't',
  properties: { a: { type: 'string', enum: ['x', 'y'], description: 'd' } },
  required: ['a'],
};
const TOOL = { type: 'function', function: { name: 'f', description: 'd', parameters: SCHEMA, strict: true } };
const COMMON = { model: 'tiny', stop: ['s'], user: 'u', metadata: { k: 'v' }, cache_salt: 'salt', request_id: 'r' };

/** Bodies in which every kind of text stands somewhere. */
const BODIES: [path: string, body: object][] = [
  [
    '/v1/chat/completions',
    {
      ...COMMON,
      messages: [
        { role: 'system', content: [{ type: 'text', text: 'a' }] },
        USER,
        { role: 'assistant', content: 'a', reasoning_content: 'r', tool_calls: [CALL] },
        { role: 'tool', tool_call_id: 'c1', content: 'result' },
        USER,
      ],
      tools: [TOOL],
      tool_choice: { type: 'function', function: { name: 'f' } },
      chat_template_kwargs: { k: 'v' },
      logit_bias: { '5': 1 },
      reasoning_effort: 'low',
      service_tier: 'auto',
      safety_identifier: 's',
      prompt_cache_key: 'p',
      max_tokens: 4,
    },
  ],
  ['/v1/chat/completions', { model: 'tiny', messages: [USER], max_tokens: 4, guided_json: SCHEMA }],
  ['/v1/chat/completions', { model: 'tiny', messages: [USER], max_tokens: 4, guided_regex: 'a' }],
  ['/v1/chat/completions', { model: 'tiny', messages: [USER], max_tokens: 4, guided_choice: ['a'] }],
  ['/v1/chat/completions', { model: 'tiny', messages: [USER], max_tokens: 4, guided_grammar: 'root ::= "a"' }],
  [
    '/v1/chat/completions',
    {
      model: 'tiny',
      messages: [USER],
      max_tokens: 4,
      response_format: { type: 'json_schema', json_schema: { name: 'n', description: 'd', schema: SCHEMA } },
    },
  ],
  ['/v1/completions', { ...COMMON, prompt: ['a', 'b'], max_tokens: 4 }],
  [
    '/v1/responses',
    {
      model: 'tiny',
      input: [
        { role: 'user', content: [{ type: 'input_text', text: 'a' }] },
        { type: 'function_call', call_id: 'c1', name: 'f', arguments: '{}' },
        { type: 'function_call_output', call_id: 'c1', output: 'o' },
      ],
      instructions: 'i',
      metadata: { k: 'v' },
      tools: [{ type: 'function', name: 'f', description: 'd', parameters: SCHEMA }],
      user: 'u',
    },
  ],
  [
    '/v1/messages',
    {
      model: 'tiny',
      max_tokens: 4,
      system: [{ type: 'text', text: 's' }],
      messages: [
        { role: 'user', content: [{ type: 'text', text: 'a' }] },
        { role: 'assistant', content: [{ type: 'tool_use', id: 't1', name: 'f', input: { a: 'b' } }] },
        { role: 'user', content: [{ type: 'tool_result', tool_use_id: 't1', content: 'r' }] },
      ],
      stop_sequences: ['s'],
      tools: [{ name: 'f', description: 'd', input_schema: SCHEMA }],
      metadata: { user_id: 'u' },
    },
  ],
  ['/v1/messages/count_tokens', { model: 'tiny', messages: [{ role: 'user', content: 'a' }], system: 's' }],
  [
    '/v1/batches',
    { input_file_id: 'file-1', endpoint: '/v1/completions', completion_window: '24h', metadata: { k: 'v' } },
  ],
  ['/tokenize', { model: 'tiny', prompt: 'a', return_token_strs: true }],
  ['/v1/completions/render', { model: 'tiny', prompt: 'a' }],
];

/** Every body that follows when one text, or one key, becomes another: with the path to it. */
function* variants(value: unknown, text: string, path = ''): Generator<[path: string, value: unknown]> {
  if (typeof value === 'string') yield [path, text];
  if (typeof value !== 'object' || value === null) return;
  for (const [key, item] of Object.entries(value)) {
    const copy = (): Record<string, unknown> => (Array.isArray(value) ? [...value] : { ...value }) as never;
    for (const [at, changed] of variants(item, text, path === '' ? key : `${path}.${key}`))
      yield [at, Object.assign(copy(), { [key]: changed })];
    if (Array.isArray(value)) continue;
    const { [key]: _, ...others } = copy();
    yield [`${path} key`, Object.defineProperty(others, text, { value: item, enumerable: true })];
  }
}

/** What an answer says is wrong. Fails where it is no error of the API. */
async function refusalOf(response: Response, path: string): Promise<string> {
  const body = (await response.json()) as { error: { message: string } };
  if (path.startsWith('/v1/messages')) assert.equal(typeof body.error.message, 'string');
  else assert.equal(errorResponse.safeParse(body).error, undefined, JSON.stringify(body));
  return body.error.message;
}

/** Sends a body; true when it is taken. Fails where it is neither taken nor refused. */
async function isTaken(path: string, body: unknown, at: string): Promise<boolean> {
  const response = await gateway.fetch(path, body);
  if (response.status === 200) {
    await response.text();
    return true;
  }
  const message = await refusalOf(response, path);
  // Without a batch service every batch that is well-formed gets 503.
  const allowed = path === '/v1/batches' ? [400, 404, 503] : [400, 404];
  assert.ok(allowed.includes(response.status), `${path} ${at}: ${response.status} ${message}`);
  return false;
}

for (const [kind, text] of Object.entries(TEXTS)) {
  test(`in every field, as value and as key, the answer is one or a refusal in its shape: ${kind}`, async () => {
    let taken = 0;
    for (const [path, body] of BODIES) {
      const sent = [...variants(body, text)].map(([at, changed]) => isTaken(path, changed, at));
      taken += (await Promise.all(sent)).filter(Boolean).length;
    }
    assert.ok(taken > 20, `${taken} were taken`);
  });
}
