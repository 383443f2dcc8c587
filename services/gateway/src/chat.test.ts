import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { eventually } from '@guildhall/common/testing';
import type OpenAI from 'openai';
import { fakeLogprob, type FakeScript } from '../../../test/fakes/fake-router.ts';
import { chatChunk, chatResponse } from './schema/chat.ts';
import { GatewayUnderTest, tinyAssets, tokensOf } from './testing/gateway-under-test.ts';

type Delta = { content?: string; reasoning_content?: string };

const ANSWER = 'I think.\n</think>\n\nHello there, friend!';
let gateway: GatewayUnderTest;
let client: OpenAI;
let script: FakeScript;

before(async () => {
  gateway = await GatewayUnderTest.start({}, { script: () => script });
  client = gateway.client();
});
after(() => gateway.stop());

const ask = (extra: object = {}): OpenAI.ChatCompletionCreateParamsNonStreaming => ({
  model: 'tiny',
  messages: [{ role: 'user', content: 'Hi' }],
  ...extra,
});

const eosId = (): number => tinyAssets().generation.eosIds[0] ?? 0;

/** The script of a text that ends its turn. */
async function answers(text: string): Promise<void> {
  script = { tokens: [...(await tokensOf(text)), eosId()], finished: { stopTokenId: eosId() } };
}

test('an answer is split into reasoning and content, counted, and shaped as the schema says', async () => {
  await answers(ANSWER);
  const { data, response } = await client.chat.completions.create(ask()).withResponse();
  assert.equal(chatResponse.safeParse(data).error, undefined);
  const choice = data.choices[0];
  assert.equal(choice?.message.content, 'Hello there, friend!');
  assert.equal((choice?.message as Delta | undefined)?.reasoning_content, 'I think.');
  assert.equal(choice?.finish_reason, 'stop');
  assert.equal(data.usage?.completion_tokens, script.tokens.length);
  assert.equal(data.usage?.prompt_tokens, gateway.router.calls.at(-1)?.request.promptIds.length);
  assert.match(data.system_fingerprint ?? '', /^fp_[0-9a-f]{16}$/);
  assert.match(response.headers.get('x-request-id') ?? '', /^req_/);
  const thought = (await tokensOf('I think.\n</think>')).length;
  assert.equal(data.usage?.completion_tokens_details?.reasoning_tokens, thought);
});

/** All chunks of a streamed answer. */
async function chunksOf(extra: object = {}): Promise<OpenAI.ChatCompletionChunk[]> {
  const chunks: OpenAI.ChatCompletionChunk[] = [];
  for await (const chunk of await client.chat.completions.create({ ...ask(extra), stream: true })) {
    assert.equal(chatChunk.safeParse(chunk).error, undefined);
    chunks.push(chunk);
  }
  return chunks;
}

const joined = (chunks: OpenAI.ChatCompletionChunk[], field: keyof Delta, index = 0): string =>
  chunks
    .flatMap((chunk) => chunk.choices.filter((choice) => choice.index === index))
    .map(({ delta }) => (delta as Delta)[field] ?? '')
    .join('');

test('a stream has the role first, the text in pieces, the reason last, and no usage unless asked', async () => {
  await answers(ANSWER);
  const chunks = await chunksOf();
  assert.deepEqual(chunks[0]?.choices[0]?.delta, { role: 'assistant', content: '' });
  assert.equal(joined(chunks, 'content'), 'Hello there, friend!');
  assert.equal(joined(chunks, 'reasoning_content'), 'I think.');
  assert.deepEqual(chunks.map((chunk) => chunk.choices[0]?.finish_reason).slice(-2), [null, 'stop']);
  assert.ok(chunks.length > 5, 'the text came in pieces');
  assert.ok(chunks.every((chunk) => !('usage' in chunk)));
  assert.equal(new Set(chunks.map((chunk) => chunk.id)).size, 1);
});

test('include_usage adds a last chunk with the usage and without choices', async () => {
  await answers(ANSWER);
  script = { ...script, cachedTokens: 3 };
  const chunks = await chunksOf({ stream_options: { include_usage: true } });
  const last = chunks.pop();
  assert.deepEqual(last?.choices, []);
  assert.equal(last?.usage?.completion_tokens, script.tokens.length);
  assert.equal(last?.usage?.prompt_tokens_details?.cached_tokens, 3);
  assert.ok(chunks.every((chunk) => chunk.usage === null));
});

test('a character of several tokens is never split', async () => {
  const text = 'no think</think>\n\nA 😀 and 👩‍👩‍👧‍👦, naïve 日本語!';
  await answers(text);
  assert.ok((await tokensOf('😀')).length > 1, 'the emoji takes several tokens');
  const pieces = (await chunksOf()).map((chunk) => (chunk.choices[0]?.delta as Delta | undefined)?.content ?? '');
  assert.equal(pieces.join(''), 'A 😀 and 👩‍👩‍👧‍👦, naïve 日本語!');
  for (const piece of pieces)
    assert.equal(piece.isWellFormed() && !piece.includes('\ufffd'), true, JSON.stringify(piece));
});

test('an answer that ends inside a character shows one replacement character', async () => {
  const emoji = await tokensOf('😀');
  script = { tokens: [...(await tokensOf('x</think>Hi ')), ...emoji.slice(0, -1)] };
  const { choices } = await client.chat.completions.create(ask());
  assert.equal(choices[0]?.message.content, 'Hi \ufffd');
});

test('n choices are generated side by side under one seed', async () => {
  await answers('x</think>same');
  const completion = await client.chat.completions.create(ask({ n: 3, seed: 7 }));
  assert.deepEqual(
    completion.choices.map((choice) => [choice.index, choice.message.content]),
    [
      [0, 'same'],
      [1, 'same'],
      [2, 'same'],
    ],
  );
  const requests = gateway.router.calls.slice(-3).map((call) => call.request);
  assert.deepEqual(new Set(requests.map((request) => request.choice)), new Set([0, 1, 2]));
  assert.ok(requests.every((request) => request.sampling?.seed === 7n));
  assert.equal(new Set(requests.map((request) => request.requestId)).size, 3);
  assert.equal(completion.usage?.completion_tokens, 3 * script.tokens.length);
  assert.equal(completion.usage?.prompt_tokens, requests[0]?.promptIds.length);
  const chunks = await chunksOf({ n: 3 });
  for (const index of [0, 1, 2]) assert.equal(joined(chunks, 'content', index), 'same');
});

test('a seed is drawn for each request that gives none', async () => {
  await answers('x</think>a');
  const seeds = new Set<bigint | undefined>();
  for (let i = 0; i < 4; i += 1) {
    await client.chat.completions.create(ask());
    seeds.add(gateway.router.calls.at(-1)?.request.sampling?.seed);
  }
  assert.equal(seeds.size, 4);
  await client.chat.completions.create(ask({ seed: -1 }));
  assert.equal(gateway.router.calls.at(-1)?.request.sampling?.seed, 2n ** 64n - 1n);
});

test('the text ends before a stop string, however it is cut into tokens', async () => {
  await answers('hm</think>\n\nOne two three four');
  script = { tokens: script.tokens.slice(0, -1), finished: { stopString: 'wo th' } };
  for (const stop of ['wo th', ['never', 'wo th']]) {
    const chunks = await chunksOf({ stop });
    assert.equal(joined(chunks, 'content'), 'One t');
    assert.equal(chunks.at(-1)?.choices[0]?.finish_reason, 'stop');
    assert.equal((chunks.at(-1)?.choices[0] as { stop_reason?: string } | undefined)?.stop_reason, 'wo th');
  }
  const kept = await client.chat.completions.create(ask({ stop: 'wo th', include_stop_str_in_output: true }));
  assert.equal(kept.choices[0]?.message.content, 'One two th');
  assert.deepEqual(gateway.router.calls.at(-1)?.request.stop?.stopStrings, ['wo th']);
});

test('what could have become a stop string is shown once it cannot', async () => {
  await answers('x</think>One two');
  const { choices } = await client.chat.completions.create(ask({ stop: 'two three' }));
  assert.equal(choices[0]?.message.content, 'One two');
});

test('a router that goes on after the stop string is cancelled', async () => {
  await answers(`x</think>One STOP ${'more '.repeat(20)}`);
  gateway.router.holdBeforeToken(script.tokens.length - 5);
  const { choices } = await client.chat.completions.create(ask({ stop: 'STOP' }));
  assert.equal(choices[0]?.message.content, 'One ');
  assert.equal(choices[0]?.finish_reason, 'stop');
  await eventually(() => gateway.router.calls.at(-1)?.cancelled, 'the call to be cancelled');
  gateway.router.release();
});

test('min_tokens goes to the router and stop strings before it do not count', async () => {
  await answers('x</think>stop and stop');
  const early = (await tokensOf('x</think>stop and')).length;
  const { choices } = await client.chat.completions.create(ask({ stop: 'stop', min_tokens: early }));
  assert.equal(choices[0]?.message.content, 'stop and ');
  assert.equal(gateway.router.calls.at(-1)?.request.stop?.minTokens, early);
});

test('max_tokens ends with the reason length', async () => {
  await answers('x</think>One two three four five');
  const { choices, usage } = await client.chat.completions.create(ask({ max_completion_tokens: 4, max_tokens: 9 }));
  assert.equal(choices[0]?.finish_reason, 'length');
  assert.equal(usage?.completion_tokens, 4);
  assert.equal(gateway.router.calls.at(-1)?.request.stop?.maxTokens, 4);
});

test('without max_tokens the rest of the context may be used', async () => {
  await answers('x</think>ok');
  await client.chat.completions.create(ask());
  const { request } = gateway.router.calls.at(-1) ?? {};
  assert.equal(request?.stop?.maxTokens, 4096 - (request?.promptIds.length ?? 0));
});

test('a stop token ends the answer and its text is left out unless asked for', async () => {
  const [word] = await tokensOf(' friend');
  assert.ok(word !== undefined);
  script = { tokens: [...(await tokensOf('x</think>Hello')), word], finished: { stopTokenId: word } };
  const cut = await client.chat.completions.create(ask({ stop_token_ids: [word] }));
  assert.equal(cut.choices[0]?.message.content, 'Hello');
  assert.equal((cut.choices[0] as { stop_reason?: number } | undefined)?.stop_reason, word);
  const kept = await client.chat.completions.create(ask({ stop_token_ids: [word], include_stop_str_in_output: true }));
  assert.equal(kept.choices[0]?.message.content, `Hello${tinyAssets().tokenizer.decode([word])}`);
});

test('special tokens are left out of the text unless asked for', async () => {
  await answers('x</think>Hi');
  script = { tokens: script.tokens };
  const hidden = await client.chat.completions.create(ask({ ignore_eos: true }));
  assert.equal(hidden.choices[0]?.message.content, 'Hi');
  const shown = await client.chat.completions.create(ask({ ignore_eos: true, skip_special_tokens: false }));
  assert.equal(shown.choices[0]?.message.content, `Hi${tinyAssets().tokenizer.idToToken(eosId())}`);
});

test('log-probabilities come with each token, its bytes and its alternatives', async () => {
  await answers('x</think>Hi 😀');
  const { choices } = await client.chat.completions.create(ask({ logprobs: true, top_logprobs: 2 }));
  const content = choices[0]?.logprobs?.content ?? [];
  const shown = script.tokens.slice(0, -1);
  assert.equal(content.length, shown.length);
  assert.equal(Buffer.from(content.flatMap((token) => token.bytes ?? [])).toString(), 'x</think>Hi 😀');
  assert.equal(content[0]?.token, 'x');
  assert.equal(content[0]?.logprob, fakeLogprob(shown[0] ?? 0));
  assert.ok(content.every((token) => token.top_logprobs.length === 2));
  const streamed = (await chunksOf({ logprobs: true })).flatMap((chunk) => chunk.choices[0]?.logprobs?.content ?? []);
  assert.deepEqual(
    streamed.map((token) => token.token),
    content.map((token) => token.token),
  );
  assert.deepEqual(streamed[0]?.top_logprobs, []);
  const without = await client.chat.completions.create(ask());
  assert.equal(without.choices[0]?.logprobs, null);
  assert.equal(gateway.router.calls.at(-1)?.request.sampling?.topLogprobs, -1);
});

test("sampling parameters reach the router; what is absent comes from the checkpoint's generation_config", async () => {
  await answers('x</think>a');
  const { generation } = tinyAssets();
  await client.chat.completions.create(ask());
  const defaults = gateway.router.calls.at(-1)?.request.sampling;
  assert.equal(defaults?.temperature, Math.fround(generation.temperature ?? 1));
  assert.equal(defaults?.topK, generation.topK);
  assert.equal(defaults?.topP, Math.fround(generation.topP ?? 1));
  const extra = {
    temperature: 0.25,
    top_p: 0.5,
    top_k: -1,
    min_p: 0.125,
    repetition_penalty: 1.5,
    presence_penalty: -0.5,
    frequency_penalty: 0.75,
    logit_bias: { '5': -100, '6': 2 },
    ignore_eos: true,
    stop_token_ids: [9, 9],
  };
  await client.chat.completions.create(ask(extra));
  const { sampling, stop } = gateway.router.calls.at(-1)?.request ?? {};
  assert.deepEqual(
    { ...sampling, seed: 0n },
    {
      temperature: 0.25,
      topP: 0.5,
      topK: 0,
      minP: 0.125,
      repetitionPenalty: 1.5,
      presencePenalty: -0.5,
      frequencyPenalty: 0.75,
      logitBias: new Map([
        [5, -100],
        [6, 2],
      ]),
      topLogprobs: -1,
      seed: 0n,
    },
  );
  assert.deepEqual([stop?.ignoreEos, stop?.stopTokenIds], [true, [9]]);
});

/** Text of the prompt of the last call. */
const lastPrompt = (): string => tinyAssets().tokenizer.decode(gateway.router.calls.at(-1)?.request.promptIds ?? []);

test('enable_thinking=false, in any of its spellings, starts the answer outside the think block', async () => {
  await answers('Plain </think> text');
  for (const extra of [
    { enable_thinking: false },
    { chat_template_kwargs: { enable_thinking: false } },
    { reasoning_effort: 'none' },
  ]) {
    const { choices } = await client.chat.completions.create(ask(extra));
    assert.equal(choices[0]?.message.content, 'Plain </think> text');
    assert.equal((choices[0]?.message as Delta | undefined)?.reasoning_content, null);
    assert.match(lastPrompt(), /<think>\n\n<\/think>\n\n$/);
  }
  await client.chat.completions.create(ask());
  assert.match(lastPrompt(), /<\|im_start\|>assistant\n<think>\n$/);
});

test('messages of all roles, with tools and tool calls, are rendered by the template', async () => {
  await answers('x</think>ok');
  const tools = [
    {
      type: 'function' as const,
      function: { name: 'weather', description: 'd', parameters: { type: 'object', properties: {} } },
    },
  ];
  const messages: OpenAI.ChatCompletionMessageParam[] = [
    { role: 'developer', content: 'Be brief.' },
    {
      role: 'user',
      content: [
        { type: 'text', text: 'Weather' },
        { type: 'text', text: ' in Paris?' },
      ],
      name: 'ann',
    },
    {
      role: 'assistant',
      content: null,
      tool_calls: [{ id: 'c1', type: 'function', function: { name: 'weather', arguments: '{"city":"Paris"}' } }],
    },
    { role: 'tool', tool_call_id: 'c1', content: 'Sunny' },
  ];
  await client.chat.completions.create(ask({ messages, tools }));
  const prompt = lastPrompt();
  for (const part of [
    'Be brief.',
    'Weather in Paris?',
    '"weather"',
    '<function=weather>',
    '<parameter=city>\nParis',
    '<tool_response>\nSunny',
  ]) {
    assert.ok(prompt.includes(part), part);
  }
  await client.chat.completions.create(ask({ messages, tools, tool_choice: 'none' }));
  assert.ok(!lastPrompt().includes('# Tools'));
});

test('continue_final_message goes on with the last message', async () => {
  await answers(' and sugar.');
  const messages = [
    { role: 'user', content: 'Recipe?' },
    { role: 'assistant', content: 'Take flour' },
  ];
  const { choices } = await client.chat.completions.create(ask({ messages, continue_final_message: true }));
  assert.match(lastPrompt(), /Take flour$/);
  assert.equal(choices[0]?.message.content, ' and sugar.');
  await client.chat.completions.create(ask({ add_generation_prompt: false }));
  assert.match(lastPrompt(), /<\|im_end\|>\n$/);
});

test('harmless OpenAI parameters are accepted, null means the default', async () => {
  await answers('x</think>ok');
  const extra = {
    user: 'u',
    metadata: { a: 'b' },
    store: false,
    service_tier: 'auto',
    parallel_tool_calls: true,
    response_format: { type: 'text' },
    modalities: ['text'],
    tool_choice: 'auto',
    verbosity: 'medium',
    prediction: null,
    audio: null,
    temperature: null,
    stop: null,
    n: null,
    stream: null,
    stream_options: null,
    logit_bias: null,
    tools: null,
    safety_identifier: 's',
    prompt_cache_key: 'k',
  };
  assert.equal((await client.chat.completions.create(ask(extra))).choices[0]?.message.content, 'ok');
});
