import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { Cluster } from '../harness/cluster.ts';
import { until } from '../harness/wait.ts';

let cluster: Cluster;
const ajv = new Ajv2020({ strict: false, validateFormats: false });

before(async () => {
  cluster = await Cluster.start({
    workers: 0,
    routers: 2,
    weights: 'bf16',
    routerArgs: ['--experts', 'local', '--grammar-compile-ms', '20000'],
    gatewayArgs: ['--resume-timeout-ms', '300000'],
  });
});
after(async () => cluster?.stop());

type Body = Record<string, unknown>;

async function post(path: string, body: Body): Promise<{ status: number; json: never }> {
  const response = await fetch(`${cluster.url}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'tiny', ...body }),
  });
  return { status: response.status, json: (await response.json()) as never };
}

interface ChatAnswer {
  choices: { message: { content: string | null; reasoning_content: string | null }; finish_reason: string }[];
}

const messages = [{ role: 'user', content: 'What is the capital of France?' }];

/** Contents of a chat answer, which has to be whole. */
async function contents(body: Body): Promise<string[]> {
  const { status, json } = await post('/v1/chat/completions', {
    messages,
    enable_thinking: false,
    max_tokens: 400,
    ...body,
  });
  assert.equal(status, 200, JSON.stringify(json));
  return (json as ChatAnswer).choices
    .filter((choice) => choice.finish_reason === 'stop')
    .map(({ message }) => message.content ?? '');
}

/** Content and reasoning of a streamed chat answer. */
async function streamed(body: Body, onPiece: () => void = () => undefined): Promise<[string, string]> {
  const response = await fetch(`${cluster.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'tiny', messages, max_tokens: 400, stream: true, ...body }),
  });
  let [content, reasoning, buffer] = ['', '', ''];
  for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
    buffer += Buffer.from(chunk).toString('utf8');
    const lines = buffer.split('\n\n');
    buffer = lines.pop() ?? '';
    for (const line of lines) {
      if (!line.startsWith('data: {')) continue;
      const { choices, error } = JSON.parse(line.slice(6)) as {
        choices?: { delta: { content?: string; reasoning_content?: string } }[];
        error?: unknown;
      };
      assert.equal(error, undefined, line);
      content += choices?.[0]?.delta.content ?? '';
      reasoning += choices?.[0]?.delta.reasoning_content ?? '';
      onPiece();
    }
  }
  return [content, reasoning];
}

const PERSON = {
  type: 'object',
  properties: {
    name: { type: 'string', minLength: 1, maxLength: 8 },
    age: { type: 'integer', minimum: 0, maximum: 120 },
    tags: { type: 'array', items: { enum: ['a', 'b', 'ü'] }, maxItems: 3 },
    born: { anyOf: [{ type: 'string', format: 'date' }, { type: 'null' }] },
  },
  required: ['name', 'age', 'born'],
  additionalProperties: false,
};
const SCHEMAS: Body[] = [
  PERSON,
  { type: 'array', items: { type: 'number', exclusiveMinimum: 0, maximum: 1 }, minItems: 1, maxItems: 3 },
  {
    $ref: '#/$defs/node',
    $defs: {
      node: {
        type: 'object',
        properties: { left: { anyOf: [{ $ref: '#/$defs/node' }, { type: 'null' }] } },
        required: ['left'],
      },
    },
  },
  { type: 'string', pattern: '^[A-Z]{2}-[0-9]{3}$' },
];

test('answers match their schemas, at any temperature and for every choice', async () => {
  let whole = 0;
  for (const [i, schema] of SCHEMAS.entries()) {
    const validate = ajv.compile(schema);
    const format = { type: 'json_schema', json_schema: { name: 'answer', strict: true, schema } };
    const answers = await contents({ response_format: format, n: 6, seed: i, temperature: 2, top_k: -1, top_p: 1 });
    whole += answers.length;
    for (const answer of answers) assert.ok(validate(JSON.parse(answer)), answer);
  }
  assert.ok(whole >= 12, `${whole} answers were whole`);
});

test('every way to ask is obeyed, by chat and text completions', async () => {
  const hot = { temperature: 2, top_k: -1, top_p: 1, n: 3, seed: 7 };
  const expectations: [Body, RegExp][] = [
    [{ guided_choice: ['yes', 'no'] }, /^(yes|no)$/],
    [{ guided_regex: '[a-c]{3}x?' }, /^[a-c]{3}x?$/],
    [{ guided_grammar: 'root ::= "1" root | "2"' }, /^1*2$/],
    [{ guided_json: '{"type":"boolean"}' }, /^(true|false)$/],
    [{ structured_outputs: { choice: ['left', 'right'] } }, /^(left|right)$/],
    [{ structured_outputs: { regex: '\\d{2}' } }, /^\d\d$/],
    [{ structured_outputs: { json: { const: 'x' } } }, /^"x"$/],
  ];
  for (const [body, whole] of expectations) {
    for (const answer of await contents({ ...hot, ...body })) assert.match(answer, whole);
    const { status, json } = await post('/v1/completions', { prompt: 'Say', max_tokens: 300, ...hot, ...body });
    assert.equal(status, 200, JSON.stringify(json));
    const { choices } = json as { choices: { text: string; finish_reason: string }[] };
    for (const choice of choices) if (choice.finish_reason === 'stop') assert.match(choice.text, whole);
  }
  for (const answer of await contents({ ...hot, response_format: { type: 'json_object' }, logit_bias: { 92: 20 } })) {
    assert.equal(typeof JSON.parse(answer), 'object');
  }
});

test('thinking is free, the answer after it is not', async () => {
  const body = {
    guided_choice: ['Paris', 'Rome'],
    thinking_token_budget: 12,
    enable_thinking: true,
    seed: 3,
    temperature: 1,
  };
  const [content, reasoning] = await streamed(body);
  assert.match(content, /^(Paris|Rome)$/);
  assert.ok(reasoning.length > 0);
  assert.deepEqual(await streamed(body), [content, reasoning]);
});

test('constrained answers are the same alone, in a batch, streamed, and when a router is killed under them', async () => {
  const format = {
    type: 'json_schema',
    json_schema: { name: 'answer', schema: { type: 'array', items: PERSON, minItems: 3 } },
  };
  const ask = (seed: number): Body => ({
    response_format: format,
    seed,
    temperature: 1.5,
    enable_thinking: false,
    max_tokens: 250,
  });
  const seeds = [1, 2, 3, 4, 5, 6];
  const alone: [string, string][] = [];
  for (const seed of seeds) alone.push(await streamed(ask(seed)));
  assert.deepEqual(await Promise.all(seeds.map((seed) => streamed(ask(seed)))), alone);
  const resumed = (): Promise<number> =>
    cluster.metric(cluster.gateway, 'guildhall_stream_resumes_total', 'outcome="resumed"');
  const before = await resumed();
  // All of them may run in one router, which holds the prompt.
  for (const number of [1, 2]) {
    let pieces = 0;
    const onPiece = (): void => {
      if ((pieces += 1) === 60) cluster.router(number).kill('SIGKILL');
    };
    assert.deepEqual(await Promise.all(seeds.map((seed) => streamed(ask(seed), onPiece))), alone);
    await cluster.restartRouter(number);
    await until(
      'both routers to be known',
      async () => (await cluster.metric(cluster.gateway, 'guildhall_routers')) === 2,
    );
  }
  assert.ok((await resumed()) > before);
});

/** A tool with one argument, a text that matches an expression. */
function strictTool(pattern: string): Body {
  const parameters = { type: 'object', properties: { a: { type: 'string', pattern } }, required: ['a'] };
  return { tools: [{ type: 'function', function: { name: 'f', parameters, strict: true } }] };
}

test('what cannot be asked for is refused by its name, at once, while others are answered', async () => {
  const running = streamed({ guided_regex: '[a-z]{200}', seed: 1, enable_thinking: false });
  const schema = (value: unknown): Body => ({
    response_format: { type: 'json_schema', json_schema: { name: 'a', schema: value } },
  });
  const refused: [Body, string, RegExp][] = [
    [
      schema({ type: 'object', properties: { a: { not: {} } } }),
      'response_format.json_schema.schema',
      /properties\.a.*"not"/,
    ],
    [schema({ $ref: '#/none' }), 'response_format.json_schema.schema', /\$ref/],
    [{ guided_json: '{' }, 'guided_json', /JSON/],
    [{ guided_regex: '(?=a)' }, 'guided_regex', /look-around/],
    [{ guided_regex: '(a{1,999}){1,999}' }, 'guided_regex', /steps/],
    [strictTool('(a{1,999}){1,999}'), 'tools', /steps/],
    [strictTool('(?=a)'), 'tools', /look-around/],
    [{ guided_choice: [] }, 'guided_choice', /./],
    [{ guided_grammar: 'root ::= "a' }, 'guided_grammar', /cannot be compiled/],
    [{ guided_grammar: 'start ::= "a"' }, 'guided_grammar', /root/],
    [{ guided_grammar: 'root ::= root', enable_thinking: false }, 'guided_grammar', /no text matches/],
    [
      { structured_outputs: { structural_tag: { type: 'structural_tag', format: { type: 'none' } } } },
      'structured_outputs.structural_tag',
      /./,
    ],
    [{ guided_regex: 'a', guided_choice: ['a'] }, 'guided_choice', /combined/],
    [{ guided_regex: 'a', min_tokens: 3 }, 'min_tokens', /guided_regex/],
    [{ guided_regex: 'a', ignore_eos: true }, 'ignore_eos', /guided_regex/],
    [{ response_format: { type: 'xml' } }, 'response_format', /./],
  ];
  for (const [body, param, message] of refused) {
    const { status, json } = await post('/v1/chat/completions', { messages, ...body });
    const { error } = json as { error: { param: string | null; message: string } };
    assert.equal(status, 400, JSON.stringify(json));
    assert.ok(error.param?.startsWith(param), `${error.param} for ${JSON.stringify(body)}`);
    assert.match(error.message, message);
  }
  assert.match((await running)[0], /^[a-z]+$/);
});

/** On each a matcher that tries one way after the other takes exponential time; here a step takes what any other takes. */
const CATASTROPHIC: [pattern: string, fits: RegExp][] = [
  ['(a+)+b', /^a+b$/],
  ['(a|a)*b', /^a*b$/],
  ['(a|aa)+', /^a+$/],
  ['(x+x+)+y', /^x{2,}y$/],
  ['([a-z]*)*[0-9]', /^[a-z]*[0-9]$/],
  ['(a|b)*a(a|b){10}', /^[ab]*a[ab]{10}$/],
  ['(a?){20}a{20}', /^a{20,40}$/],
];

test('expressions that are catastrophic elsewhere are matched or refused, while others are answered', async () => {
  const others = streamed({ guided_regex: '[a-z]{200}', seed: 1, enable_thinking: false });
  let matched = 0;
  for (const [pattern, fits] of CATASTROPHIC) {
    const ways: Body[] = [{ guided_regex: pattern }, { ...strictTool(`^(${pattern})$`), tool_choice: 'required' }];
    for (const way of ways) {
      const body = { messages, enable_thinking: false, max_tokens: 64, seed: 3, ...way };
      const { status, json } = await post('/v1/chat/completions', body);
      if (status === 400) {
        assert.match((json as { error: { message: string } }).error.message, /too complex/, pattern);
        continue;
      }
      assert.equal(status, 200, JSON.stringify(json));
      const text = wholeText((json as CallingAnswer).choices[0]);
      if (text === null) continue;
      assert.match(text, fits, pattern);
      matched += 1;
    }
  }
  assert.ok(matched > 3, `${matched} matched`);
  assert.match((await others)[0], /^[a-z]+$/);
});

interface CallingAnswer {
  choices: {
    finish_reason: string;
    message: { content: string | null; tool_calls?: { function: { arguments: string } }[] };
  }[];
}

/** What an expression was for: the content, or the argument of the call; null where the answer was cut off. */
function wholeText(choice: CallingAnswer['choices'][0] | undefined): string | null {
  if (choice?.finish_reason === 'stop') return choice.message.content ?? '';
  if (choice?.finish_reason !== 'tool_calls') return null;
  return (JSON.parse(choice.message.tool_calls?.[0]?.function.arguments ?? '') as { a: string }).a;
}
