import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type OpenAI from 'openai';
import type { FakeScript } from '../../../test/fakes/fake-router.ts';
import { chatChunk, chatResponse } from './schema/chat.ts';
import { GatewayUnderTest, tinyAssets, tokensOf } from './testing/gateway-under-test.ts';

/** `functions` and `function_call` of chat completions, which came before `tools`. */

let gateway: GatewayUnderTest;
let client: OpenAI;
let script: FakeScript;

before(async () => {
  gateway = await GatewayUnderTest.start({}, { script: () => script });
  client = gateway.client();
});
after(() => gateway.stop());

const FUNCTIONS: OpenAI.ChatCompletionCreateParams.Function[] = [
  {
    name: 'weather',
    description: 'The weather of a place.',
    parameters: { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] },
  },
  { name: 'clock', parameters: { type: 'object', properties: {} } },
];
const PARIS = '<tool_call>\n<function=weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n</tool_call>';

type Body = OpenAI.ChatCompletionCreateParamsNonStreaming;

const ask = (extra: Partial<Body> = {}): Body => ({
  model: 'tiny',
  messages: [{ role: 'user', content: 'Weather in Paris?' }],
  functions: FUNCTIONS,
  ...extra,
});

async function answers(text: string): Promise<void> {
  const eos = tinyAssets().generation.eosIds[0] ?? 0;
  script = { tokens: [...(await tokensOf(text)), eos], finished: { stopTokenId: eos } };
}

const lastRequest = () => gateway.router.calls.at(-1)?.request;
const lastPrompt = (): string => tinyAssets().tokenizer.decode(lastRequest()?.promptIds ?? [], { skipSpecial: false });

test('a call is answered as function_call, whole and streamed, with the prompt that tools would have', async () => {
  await answers(`Hm.\n</think>\n\nI look.\n\n${PARIS}\n${PARIS}`);
  const completion = await client.chat.completions.create(ask());
  assert.equal(chatResponse.safeParse(completion).error, undefined);
  const [choice] = completion.choices;
  assert.deepEqual(choice?.message.function_call, { name: 'weather', arguments: '{"city":"Paris"}' });
  assert.equal(choice?.message.tool_calls, undefined);
  assert.deepEqual([choice?.finish_reason, choice?.message.content], ['function_call', 'I look.']);
  const prompt = lastPrompt();
  const call = { name: '', arguments: '' };
  let [content, finish] = ['', ''];
  for await (const chunk of await client.chat.completions.create({ ...ask(), stream: true })) {
    assert.equal(chatChunk.safeParse(chunk).error, undefined);
    const delta = chunk.choices[0]?.delta;
    assert.equal(delta?.tool_calls, undefined);
    call.name += delta?.function_call?.name ?? '';
    call.arguments += delta?.function_call?.arguments ?? '';
    content += delta?.content ?? '';
    finish = chunk.choices[0]?.finish_reason ?? finish;
  }
  assert.deepEqual([call, content, finish], [choice?.message.function_call, 'I look.', 'function_call']);
  const tools = FUNCTIONS.map((fn) => ({ type: 'function' as const, function: fn }));
  await client.chat.completions.create({ model: 'tiny', messages: ask().messages, tools });
  assert.equal(lastPrompt(), prompt);
});

test('function_call decides as tool_choice does', async () => {
  await answers(`x</think>${PARIS}`);
  const none = await client.chat.completions.create(ask({ function_call: 'none' }));
  assert.match(none.choices[0]?.message.content ?? '', /<function=weather>/);
  assert.doesNotMatch(lastPrompt(), /The weather of a place/);
  await client.chat.completions.create(ask({ function_call: 'auto' }));
  assert.equal(lastRequest()?.constraint, undefined);
  const named = await client.chat.completions.create(ask({ function_call: { name: 'weather' } }));
  assert.notEqual(lastRequest()?.constraint, undefined);
  assert.equal(named.choices[0]?.message.function_call?.name, 'weather');
});

test('calls and results of the history are rendered as those of tools are', async () => {
  await answers('x</think>ok');
  const call = { name: 'weather', arguments: '{"city":"Paris"}' };
  const start = { role: 'user' as const, content: 'Weather in Paris?' };
  await client.chat.completions.create(
    ask({
      messages: [
        start,
        { role: 'assistant', content: null, function_call: call },
        { role: 'function', name: 'weather', content: 'sunny' },
      ],
    }),
  );
  const prompt = lastPrompt();
  assert.match(prompt, /<parameter=city>\nParis\n<\/parameter>[\s\S]*<tool_response>\nsunny\n<\/tool_response>/);
  const tools = FUNCTIONS.map((fn) => ({ type: 'function' as const, function: fn }));
  await client.chat.completions.create({
    model: 'tiny',
    tools,
    messages: [
      start,
      { role: 'assistant', content: null, tool_calls: [{ id: 'a', type: 'function', function: call }] },
      { role: 'tool', tool_call_id: 'a', content: 'sunny' },
    ],
  });
  assert.equal(lastPrompt(), prompt);
});

test('what does not go together is refused by name', async () => {
  const tools = [{ type: 'function' as const, function: { name: 'f' } }];
  const call = { name: 'weather', arguments: '{}' };
  const both = { role: 'assistant', function_call: call, tool_calls: [{ id: 'a', type: 'function', function: call }] };
  const cases: [object, string][] = [
    [{ tools }, 'functions'],
    [{ tool_choice: 'auto' }, 'tool_choice'],
    [{ function_call: { name: 'nothing' } }, 'function_call'],
    [{ functions: [], function_call: 'auto' }, 'function_call'],
    [{ function_call: 'required' }, 'function_call'],
    [{ functions: [{ name: 'a b' }] }, 'functions[0].name'],
    [{ functions: [{ name: 'f', strict: true }] }, 'functions[0].strict'],
    [{ messages: [{ role: 'user', content: 'x' }, both] }, 'messages[1].function_call'],
    [{ messages: [{ role: 'function', content: 'x' }] }, 'messages[0].name'],
  ];
  for (const [extra, field] of cases) {
    const response = await gateway.fetch('/v1/chat/completions', { ...ask(), ...extra });
    const { error } = (await response.json()) as { error: { param: string } };
    assert.deepEqual([response.status, error.param], [400, field], JSON.stringify(extra));
  }
});

test('a preview has the prompt of the functions', async () => {
  const response = await gateway.fetch('/v1/chat/completions/render', ask());
  assert.match(((await response.json()) as { prompt: string }).prompt, /The weather of a place/);
});
