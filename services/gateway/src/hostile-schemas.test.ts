import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { GatewayUnderTest, tokensOf } from './testing/gateway-under-test.ts';

/** What would take minutes or for ever fails by this; everything here takes seconds at most. */
const LIMIT = { timeout: 280_000 };

let gateway: GatewayUnderTest;
before(async () => {
  const call = 'x</think><tool_call>\n<function=f>\n<parameter=a>\nb\n</parameter>\n</function>\n</tool_call>';
  const tokens = await tokensOf(call);
  const options = { script: () => ({ tokens }), maxContext: 65_536 };
  gateway = await GatewayUnderTest.start({ maxContext: 65_536, bodyLimitBytes: 16 << 20 }, options);
});
after(async () => {
  try {
    assert.equal((await gateway.fetch('/v1/completions', { model: 'tiny', prompt: 'a', max_tokens: 2 })).status, 200);
    assert.equal(gateway.context.inFlight.size, 0);
  } finally {
    await gateway.stop();
  }
});

type Schema = Record<string, unknown>;

const numbers = <T>(count: number, of: (i: number) => T): T[] => Array.from({ length: count }, (_, i) => of(i));
const named = (count: number, of: (i: number) => unknown): Schema =>
  Object.fromEntries(numbers(count, (i) => [`p${i}`, of(i)]));
const nested = (depth: number, wrap: (inner: unknown) => unknown): unknown => {
  let value: unknown = { type: 'string' };
  for (let i = 0; i < depth; i += 1) value = wrap(value);
  return value;
};
const tool = (parameters: unknown, more: object = {}): object => ({
  type: 'function',
  function: { name: 'f', parameters, ...more },
});

interface Verdict {
  status: number;
  param: string;
}

/** Each way to bring tools, or a schema of their arguments, into a request. */
const WAYS: Record<string, (parameters: unknown) => object> = {
  auto: (parameters) => ({ tools: [tool(parameters)] }),
  required: (parameters) => ({ tools: [tool(parameters)], tool_choice: 'required' }),
  strict: (parameters) => ({ tools: [tool(parameters, { strict: true })] }),
  response_format: (schema) => ({ response_format: { type: 'json_schema', json_schema: { name: 'n', schema } } }),
  guided_json: (schema) => ({ guided_json: schema }),
};
const FIELDS = /^(tools|tool_choice|response_format|guided_|messages)/;

async function ask(fields: object): Promise<Verdict> {
  const body = { model: 'tiny', messages: [{ role: 'user', content: 'Hi' }], max_tokens: 100, ...fields };
  const response = await gateway.fetch('/v1/chat/completions', body);
  const answer = (await response.json()) as { error?: { param: string | null; message: string } };
  if (response.status === 400) assert.match(answer.error?.param ?? '', FIELDS, answer.error?.message);
  else assert.equal(response.status, 200, JSON.stringify(answer).slice(0, 500));
  return { status: response.status, param: answer.error?.param ?? '' };
}

/** Asks in each way, while others are served. */
async function askAll(schema: unknown): Promise<Record<string, number>> {
  const statuses: Record<string, number> = {};
  for (const [way, fields] of Object.entries(WAYS)) {
    const [verdict, other] = await Promise.all([ask(fields(schema)), gateway.fetch('/health')]);
    assert.equal(other.status, 200);
    statuses[way] = verdict.status;
  }
  return statuses;
}

const ALL_TAKEN = { auto: 200, required: 200, strict: 200, response_format: 200, guided_json: 200 };
const NONE_TAKEN = { auto: 400, required: 400, strict: 400, response_format: 400, guided_json: 400 };
/** A schema that only the model sees may be anything; what calls are held to is compiled, and refused, by real routers. */
const SHOWN_ONLY = { ...NONE_TAKEN, auto: 200, required: 200, strict: 200 };

test('schemas of megabytes are shown or refused, and never hold anybody up', LIMIT, async () => {
  const huge: [unknown, object][] = [
    // Larger than what a prompt may hold.
    [{ type: 'object', properties: named(20_000, () => ({ type: 'string' })) }, NONE_TAKEN],
    [{ type: 'object', description: 'long words '.repeat(600_000) }, NONE_TAKEN],
    [{ type: 'object', properties: { a: { enum: numbers(50_000, (i) => `value ${i}`) } } }, NONE_TAKEN],
    [{ type: 'object', properties: named(100_001, () => ({ type: 'string' })) }, NONE_TAKEN],
  ];
  for (const [schema, expected] of huge) {
    const statuses = await askAll(schema);
    assert.deepEqual({ ...statuses, response_format: 400, guided_json: 400 }, expected);
  }
});

test('a thousand tools are taken, one more is not, and neither is one among them that is wrong', LIMIT, async () => {
  const tools = (count: number): object[] =>
    numbers(count, (i) => ({ type: 'function', function: { name: `f${i}`, parameters: { type: 'object' } } }));
  assert.equal((await ask({ tools: tools(1024) })).status, 200);
  assert.equal((await ask({ tools: tools(1024), tool_choice: 'required' })).status, 200);
  assert.deepEqual(await ask({ tools: tools(1025) }), { status: 400, param: 'tools' });
  const odd = tools(1024);
  odd[700] = tool({ type: 'object' }, { name: 'a b' });
  assert.deepEqual(await ask({ tools: odd }), { status: 400, param: 'tools[700].function.name' });
});

test('schemas may be nested up to a depth, deeper ones are refused before anything walks them', LIMIT, async () => {
  const object = (inner: unknown): unknown => ({ type: 'object', properties: { a: inner }, required: ['a'] });
  assert.deepEqual(await askAll(nested(20, object)), ALL_TAKEN);
  assert.deepEqual(await askAll(nested(40, object)), NONE_TAKEN);
  const deep = `${'{"items":'.repeat(100_000)}{}${'}'.repeat(100_000)}`;
  for (const field of ['guided_json', 'metadata', 'chat_template_kwargs', 'tools', 'stop', 'nothing']) {
    const body = `{"model":"tiny","messages":[{"role":"user","content":"Hi"}],"${field}":${deep}}`;
    const response = await gateway.fetch('/v1/chat/completions', body);
    assert.equal(response.status, 400, field);
  }
  for (const path of ['/v1/completions', '/v1/responses', '/v1/messages', '/tokenize']) {
    for (const body of [`{"model":"tiny","prompt":${deep}}`, deep, `[${'['.repeat(1e6)}`, `{"input":${deep}}`])
      assert.equal((await gateway.fetch(path, body)).status, 400, path);
  }
});

test('schemas that refer to themselves are taken where they come to an end, else refused', LIMIT, async () => {
  const node = {
    type: 'object',
    properties: { value: { type: 'string' }, next: { anyOf: [{ $ref: '#/$defs/node' }, { type: 'null' }] } },
    required: ['value', 'next'],
  };
  assert.deepEqual(await askAll({ $ref: '#/$defs/node', $defs: { node } }), ALL_TAKEN);
  assert.deepEqual(await askAll({ type: 'object', properties: { child: { $ref: '#' } } }), ALL_TAKEN);
  const loops: Schema[] = [
    { $ref: '#' },
    { $ref: '#/$defs/a', $defs: { a: { $ref: '#/$defs/b' }, b: { $ref: '#/$defs/a' } } },
    { allOf: [{ $ref: '#' }] },
    { anyOf: [{ $ref: '#' }, { $ref: '#' }] },
    { type: 'object', properties: { a: { $ref: '#/$defs/none' } } },
    { $ref: 'https://example.com/schema.json' },
    { type: 'object', properties: { a: { $ref: '#/properties/a' } }, required: ['a'] },
  ];
  for (const schema of loops) {
    const statuses = await askAll(schema);
    assert.equal(statuses['auto'], 200, JSON.stringify(schema));
  }
  // Each doubles the one before it when it is written out.
  const doubling = {
    $ref: '#/$defs/d40',
    $defs: Object.fromEntries(
      numbers(41, (i) => [
        `d${i}`,
        i === 0 ? { type: 'string' } : { anyOf: numbers(2, () => ({ $ref: `#/$defs/d${i - 1}` })) },
      ]),
    ),
  };
  await askAll(doubling);
  const merged = {
    type: 'object',
    allOf: numbers(60, (i) => ({ properties: named(60, (j) => ({ type: 'string', title: `${i} ${j}` })) })),
  };
  await askAll(merged);
});

/** Expressions on which a matcher that tries one way after the other takes exponential time. */
const CATASTROPHIC = [
  '(a+)+$',
  '([a-zA-Z]+)*$',
  '(a|a)*$',
  '(a|aa)+$',
  '(.*a){12}$',
  '(x+x+)+y',
  String.raw`^(\w+\s?)*$`,
  String.raw`^(([a-z])+.)+[A-Z]([a-z])+$`,
  '(a?){30}a{30}',
  '(a|b)*a(a|b){14}',
];

test('expressions that are catastrophic elsewhere are taken, or refused for their size', LIMIT, async () => {
  for (const pattern of CATASTROPHIC) {
    const schema = { type: 'object', properties: { a: { type: 'string', pattern } }, required: ['a'] };
    const statuses = await askAll(schema);
    assert.equal(statuses['auto'], 200, pattern);
    await ask({ guided_regex: pattern });
  }
  for (const pattern of [
    '(a{1,999}){1,999}',
    '((a{0,99}){0,99}){0,99}',
    String.raw`(\w*\s*){1000}x`,
    '(?=a)b',
    '(a)\\1',
    '(',
  ]) {
    const schema = { type: 'object', properties: { a: { type: 'string', pattern } }, required: ['a'] };
    assert.deepEqual(await askAll(schema), SHOWN_ONLY, pattern);
    const body = { model: 'tiny', messages: [{ role: 'user', content: 'Hi' }], guided_regex: pattern };
    const response = await gateway.fetch('/v1/chat/completions', body);
    const { error } = (await response.json()) as { error: { param: string } };
    assert.deepEqual([response.status, error.param], [400, 'guided_regex'], pattern);
  }
});
