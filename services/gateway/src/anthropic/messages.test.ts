import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import Anthropic from '@anthropic-ai/sdk';
import type { FakeScript } from '../../../../test/fakes/fake-router.ts';
import { anthropicMessage } from '../schema/anthropic.ts';
import { GatewayUnderTest, tinyAssets, tokensOf } from '../testing/gateway-under-test.ts';

const THOUGHTFUL = 'I think.\n</think>\n\nHello there, friend!';
let gateway: GatewayUnderTest;
let client: Anthropic;
let script: FakeScript;

before(async () => {
  gateway = await GatewayUnderTest.start({ apiKey: ['key-one'] }, { script: () => script, maxContext: 300 });
  client = clientWith('key-one');
});
after(() => gateway.stop());

const clientWith = (apiKey: string): Anthropic => new Anthropic({ apiKey, baseURL: gateway.url, maxRetries: 0 });
const eosId = (): number => tinyAssets().generation.eosIds[0] ?? 0;

async function answers(text: string, cachedTokens = 0): Promise<void> {
  script = { tokens: [...(await tokensOf(text)), eosId()], finished: { stopTokenId: eosId() }, cachedTokens };
}

function lastPrompt(): string {
  return tinyAssets().tokenizer.decode(gateway.router.calls.at(-1)?.request.promptIds ?? [], { skipSpecial: false });
}

const ask = (extra: object = {}): Anthropic.MessageCreateParamsNonStreaming => ({
  model: 'tiny',
  max_tokens: 100,
  messages: [{ role: 'user', content: 'Hi' }],
  ...extra,
});
const think = { thinking: { type: 'enabled', budget_tokens: 50 } };

test('a message has its blocks, its stop reason, and usage with cached tokens apart', async () => {
  await answers(THOUGHTFUL, 4);
  const { data: message, response } = await client.messages
    .create(
      ask({
        ...think,
        system: [
          { type: 'text', text: 'Be kind.' },
          { type: 'text', text: 'Be brief.' },
        ],
      }),
    )
    .withResponse();
  assert.equal(anthropicMessage.safeParse(message).error, undefined);
  assert.deepEqual(
    message.content.map((block) => block.type),
    ['thinking', 'text'],
  );
  assert.equal(message.content[1]?.type === 'text' && message.content[1].text, 'Hello there, friend!');
  assert.equal(message.stop_reason, 'end_turn');
  const prompt = gateway.router.calls.at(-1)?.request.promptIds.length ?? 0;
  assert.equal(message.usage.input_tokens, prompt - 4);
  assert.equal(message.usage.cache_read_input_tokens, 4);
  assert.equal(message.usage.output_tokens, script.tokens.length);
  assert.match(lastPrompt(), /system\nBe kind\.\n\nBe brief\.<\|im_end\|>[^]*assistant\n<think>\n$/);
  assert.match(response.headers.get('request-id') ?? '', /^req_/);
});

test('a stream has the events of Anthropic, and its deltas add up to the message', async () => {
  await answers(THOUGHTFUL);
  const stream = client.messages.stream(ask(think));
  const types: string[] = [];
  for await (const event of stream) if (types.at(-1) !== event.type) types.push(event.type);
  assert.deepEqual(types, [
    'message_start',
    'content_block_start',
    'content_block_delta',
    'content_block_stop',
    'content_block_start',
    'content_block_delta',
    'content_block_stop',
    'message_delta',
    'message_stop',
  ]);
  const streamed = await stream.finalMessage();
  const whole = await client.messages.create(ask(think));
  assert.deepEqual(streamed.content, whole.content);
  assert.deepEqual(streamed.usage, whole.usage);
  assert.equal(streamed.stop_reason, whole.stop_reason);
});

test('without thinking the answer begins at once', async () => {
  await answers('Hello!');
  const message = await client.messages.create(ask());
  assert.deepEqual(message.content, [{ type: 'text', text: 'Hello!', citations: null }]);
  assert.match(lastPrompt(), /<think>\n\n<\/think>\n\n$/);
});

test('a stop sequence is named, and a full context too', async () => {
  await answers('One, two, three.');
  const stopped = await client.messages.create(ask({ stop_sequences: ['two'] }));
  assert.equal(stopped.stop_reason, 'stop_sequence');
  assert.equal(stopped.stop_sequence, 'two');
  script = { tokens: Array.from({ length: 400 }, () => 65) };
  assert.equal((await client.messages.create(ask({ max_tokens: 3 }))).stop_reason, 'max_tokens');
  const cut = await client.messages.create(ask({ max_tokens: 4000 }));
  assert.equal(cut.stop_reason, 'model_context_window_exceeded');
});

test('the count of tokens is the length of the prompt', async () => {
  await answers('Hello!');
  const counted = await client.messages.countTokens({ model: 'tiny', messages: ask().messages });
  await client.messages.create(ask());
  assert.equal(counted.input_tokens, gateway.router.calls.at(-1)?.request.promptIds.length);
});

const useThenResult = (result: object): Anthropic.MessageParam[] => [
  { role: 'user', content: 'Weather?' },
  { role: 'assistant', content: [{ type: 'tool_use', id: 'toolu_1', name: 'weather', input: { city: 'Oslo' } }] },
  {
    role: 'user',
    content: [
      { type: 'tool_result', tool_use_id: 'toolu_1', ...result },
      { type: 'text', text: 'Well?' },
    ],
  },
];

test('results of tools come before the text that is beside them, errors as such', async () => {
  await answers('Cold.');
  await client.messages.create(ask({ messages: useThenResult({ content: 'No such city', is_error: true }) }));
  assert.match(lastPrompt(), /<tool_response>\nError: No such city\n<\/tool_response>[^]*user\nWell\?/);
});

const image = { type: 'image', source: { type: 'base64', media_type: 'image/png', data: '' } };

test('bad input is refused in Anthropic’s envelope, with the field that is wrong', async () => {
  const cases: [object, RegExp][] = [
    [{ max_tokens: undefined }, /max_tokens is required/],
    [{ max_tokens: 0 }, /max_tokens/],
    [{ messages: [] }, /messages/],
    [
      { messages: [{ role: 'user', content: [image] }] },
      /messages\[0\]\.content\[0\]\.type: image input is not supported/,
    ],
    [{ messages: useThenResult({ content: [image] }) }, /messages\[2\].*image input is not supported/],
    [{ messages: useThenResult({ tool_use_id: 'other' }) }, /messages\[2\]\.content\[0\]\.tool_use_id/],
    [{ messages: useThenResult({}).slice(0, 2) }, /messages\[1\]: a tool_use needs a tool_result/],
    [{ messages: [{ role: 'user', content: [{ type: 'thinking', thinking: 'x', signature: '' }] }] }, /messages\[0\]/],
    [{ thinking: { type: 'enabled', budget_tokens: 100 } }, /thinking\.budget_tokens: must be less than max_tokens/],
    [{ tools: [{ type: 'web_search_20250305', name: 'web_search' }] }, /tools\[0\]/],
    [{ tool_choice: { type: 'tool', name: 'none' } }, /tool_choice\.name/],
    [{ nonsense: 1 }, /unknown field: nonsense/],
  ];
  for (const [extra, message] of cases) {
    const error = await client.messages.create(ask(extra)).then(
      () => assert.fail(`taken: ${JSON.stringify(extra)}`),
      (err: unknown) => err,
    );
    assert.ok(error instanceof Anthropic.BadRequestError, `${JSON.stringify(extra)}: ${String(error)}`);
    assert.equal(error.type, 'invalid_request_error');
    assert.match(String(error.apiMessage), message);
    assert.match(error.requestID ?? '', /^req_/);
  }
});

test('statuses are Anthropic’s: wrong keys, unknown models, paths, and no router', async () => {
  await assert.rejects(clientWith('wrong').messages.create(ask()), (err: unknown) => {
    return err instanceof Anthropic.AuthenticationError && err.type === 'authentication_error';
  });
  await assert.rejects(client.messages.create(ask({ model: 'other' })), (err: unknown) => {
    return err instanceof Anthropic.NotFoundError && err.type === 'not_found_error';
  });
  await assert.rejects(client.messages.batches.list(), Anthropic.NotFoundError);
});

const CALL =
  'Let me see.\n\n<tool_call>\n<function=weather>\n<parameter=city>\nOslo\n</parameter>\n<parameter=days>\n3\n</parameter>\n' +
  '</function>\n</tool_call>';
const tools: Anthropic.Tool[] = [
  {
    name: 'weather',
    input_schema: { type: 'object', properties: { city: { type: 'string' }, days: { type: 'integer' } } },
  },
];

test('uses of tools are blocks, streamed with their input, and come back with their results', async () => {
  await answers(CALL);
  const stream = client.messages.stream(ask({ tools }));
  const streamed = await stream.finalMessage();
  const whole = await client.messages.create(ask({ tools }));
  assert.equal(whole.stop_reason, 'tool_use');
  const [text, use] = whole.content;
  assert.deepEqual(text, { type: 'text', text: 'Let me see.', citations: null });
  assert.ok(use?.type === 'tool_use');
  assert.deepEqual(use.input, { city: 'Oslo', days: 3 });
  assert.match(use.id, /^toolu_/);
  assert.deepEqual(
    streamed.content.map((block) => ({ ...block, id: '' })),
    whole.content.map((block) => ({ ...block, id: '' })),
  );
  await answers('Snow.');
  const result: Anthropic.ToolResultBlockParam = { type: 'tool_result', tool_use_id: use.id, content: 'cold' };
  const messages = [
    ...ask().messages,
    { role: 'assistant', content: whole.content },
    { role: 'user', content: [result] },
  ];
  const next = await client.messages.create(ask({ messages, tools, tool_choice: { type: 'none' } }));
  assert.equal(next.content[0]?.type === 'text' && next.content[0].text, 'Snow.');
  assert.match(lastPrompt(), /<parameter=days>\n3\n<\/parameter>[^]*<tool_response>\ncold\n<\/tool_response>/);
});

test('thinking that was left out comes back by its signature', async () => {
  await answers(THOUGHTFUL);
  const omitted = { thinking: { type: 'adaptive', display: 'omitted' } };
  const [thinking] = (await client.messages.create(ask(omitted))).content;
  assert.ok(thinking?.type === 'thinking');
  assert.equal(thinking.thinking, '');
  await answers('Cold.');
  const messages = useThenResult({ content: 'x' }).slice(0, 3);
  const uses = messages[1]?.content as Anthropic.ContentBlockParam[];
  const turn = { role: 'assistant' as const, content: [thinking, ...uses] };
  const result = { role: 'user', content: [{ type: 'tool_result', tool_use_id: 'toolu_1', content: 'x' }] };
  await client.messages.create(ask({ messages: [messages[0], turn, result] }));
  assert.match(lastPrompt(), /<think>\nI think\.\n<\/think>/);
});

test('a last message of the assistant is gone on with', async () => {
  await answers(' four.');
  const messages = [...ask().messages, { role: 'assistant', content: 'Two and two is' }];
  await client.messages.create(ask({ messages }));
  assert.match(lastPrompt(), /Two and two is$/);
});

test('a thread is refused in the way on which the tool runner of the client goes on without one', async () => {
  await answers('ok');
  const asked = { ...ask(), thread: { type: 'create' as const } };
  await assert.rejects(client.beta.messages.create(asked), (error: unknown) => {
    assert.ok(error instanceof Anthropic.BadRequestError);
    assert.equal(error.errorCode, 'thread_unsupported_request');
    assert.deepEqual(error.details, { error_code: 'thread_unsupported_request', unsupported: ['thread'] });
    return true;
  });
  const other = await client.beta.messages
    .create({ ...asked, thread: null, container: 'c' })
    .catch((error: unknown) => error);
  assert.ok(other instanceof Anthropic.BadRequestError);
  assert.equal(other.details, null);
});

test('the older name of the format constrains the answer as the newer one does; both are too much', async () => {
  await answers('{"a":1}');
  const format = { type: 'json_schema' as const, schema: { type: 'object', properties: { a: { type: 'integer' } } } };
  await client.messages.create(ask({ output_config: { format } }));
  const { constraint } = gateway.router.calls.at(-1)?.request ?? {};
  assert.notEqual(constraint, undefined);
  await client.messages.create(ask({ output_format: format }));
  assert.deepEqual(gateway.router.calls.at(-1)?.request.constraint, constraint);
  const both = ask({ output_format: format, output_config: { format } });
  await assert.rejects(client.messages.create(both), /output_format: cannot be combined with output_config.format/);
});
