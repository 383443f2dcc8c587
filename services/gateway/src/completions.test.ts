import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type OpenAI from 'openai';
import { fakeLogprob, type FakeScript } from '../../../test/fakes/fake-router.ts';
import { completionResponse } from './schema/completion.ts';
import { GatewayUnderTest, tinyAssets, tokensOf } from './testing/gateway-under-test.ts';

let gateway: GatewayUnderTest;
let client: OpenAI;
let script: FakeScript;

before(async () => {
  gateway = await GatewayUnderTest.start({}, { script: () => script });
  client = gateway.client();
});
after(() => gateway.stop());

async function answers(text: string): Promise<void> {
  const eos = tinyAssets().generation.eosIds[0] ?? 0;
  script = { tokens: [...(await tokensOf(text)), eos], finished: { stopTokenId: eos } };
}

const ask = (extra: object = {}): OpenAI.CompletionCreateParamsNonStreaming => ({
  model: 'tiny',
  prompt: 'Once',
  ...extra,
});

test('a completion is plain text, think tags included, and has the shape of the schema', async () => {
  await answers(' upon <think>a</think> time');
  const completion = await client.completions.create(ask({ max_tokens: 64 }));
  assert.equal(completionResponse.safeParse(completion).error, undefined);
  assert.equal(completion.choices[0]?.text, ' upon <think>a</think> time');
  assert.equal(completion.choices[0]?.finish_reason, 'stop');
  assert.equal(completion.usage?.completion_tokens, script.tokens.length);
});

test('max_tokens is 16 by default', async () => {
  await answers('a b c d e f g h i j k l m n o p q r s t u v w x y z');
  const completion = await client.completions.create(ask());
  assert.equal(completion.choices[0]?.finish_reason, 'length');
  assert.equal(completion.usage?.completion_tokens, 16);
});

test('prompts may be texts, token ids and lists of both; each is answered n times, in order', async () => {
  await answers(' x');
  const ids = await tokensOf('Once');
  const prompts: [string | string[] | number[] | number[][], number[][]][] = [
    ['Once', [ids]],
    [
      ['Once', 'More'],
      [ids, await tokensOf('More')],
    ],
    [ids, [ids]],
    [
      [ids, [5, 6]],
      [ids, [5, 6]],
    ],
  ];
  for (const [prompt, expected] of prompts) {
    const before = gateway.router.calls.length;
    const completion = await client.completions.create(ask({ prompt, n: 2 }));
    assert.deepEqual(
      completion.choices.map((choice) => choice.index),
      expected.flatMap((_, i) => [2 * i, 2 * i + 1]),
    );
    const requests = gateway.router.calls.slice(before).map((call) => call.request);
    const byChoice = requests.toSorted(
      (a, b) => Number(a.requestId.split('-').at(-1)) - Number(b.requestId.split('-').at(-1)),
    );
    assert.deepEqual(
      byChoice.map((request) => request.promptIds),
      expected.flatMap((list) => [list, list]),
    );
    assert.deepEqual(
      byChoice.map((request) => request.choice),
      expected.flatMap(() => [0, 1]),
    );
    assert.equal(completion.usage?.prompt_tokens, expected.flat().length);
  }
});

test('a stream carries the text in pieces and the usage when asked', async () => {
  await answers(' upon a 😀 time');
  const stream = await client.completions.create({ ...ask(), stream: true, stream_options: { include_usage: true } });
  const chunks = [];
  for await (const chunk of stream) {
    assert.equal(completionResponse.safeParse(chunk).error, undefined);
    chunks.push(chunk);
  }
  assert.equal(chunks.map((chunk) => chunk.choices[0]?.text ?? '').join(''), ' upon a 😀 time');
  assert.equal(chunks.at(-2)?.choices[0]?.finish_reason, 'stop');
  assert.deepEqual(chunks.at(-1)?.choices, []);
  assert.equal(chunks.at(-1)?.usage?.completion_tokens, script.tokens.length);
});

test('logprobs are four arrays of equal length with offsets into the text', async () => {
  await answers(' Hi 😀');
  const { choices } = await client.completions.create(ask({ logprobs: 2 }));
  const logprobs = choices[0]?.logprobs;
  const shown = script.tokens.slice(0, -1);
  assert.equal(logprobs?.tokens?.length, shown.length);
  assert.deepEqual(
    logprobs?.token_logprobs,
    shown.map((id) => fakeLogprob(id)),
  );
  assert.ok(logprobs?.top_logprobs?.every((top) => Object.keys(top).length === 2));
  assert.ok(
    logprobs?.tokens?.some((token) => token.startsWith('bytes:\\xf0')),
    'a part of a character is shown as bytes',
  );
  for (const [i, token] of (logprobs?.tokens ?? []).entries()) {
    if (!token.startsWith('bytes:')) assert.ok(' Hi 😀'.startsWith(token, logprobs?.text_offset?.[i]), token);
  }
});

test('echo puts the prompt in front, with its log-probabilities when asked', async () => {
  await answers(' upon');
  const prompt = 'Once or twice';
  const ids = await tokensOf(prompt);
  const plain = await client.completions.create(ask({ prompt, echo: true }));
  assert.equal(plain.choices[0]?.text, 'Once or twice upon');
  const { choices } = await client.completions.create(ask({ prompt, echo: true, logprobs: 0 }));
  assert.equal(choices[0]?.text, 'Once or twice upon');
  const logprobs = choices[0]?.logprobs;
  assert.equal(logprobs?.tokens?.length, ids.length + script.tokens.length - 1);
  assert.deepEqual([logprobs?.token_logprobs?.[0], logprobs?.top_logprobs?.[0]], [null, null]);
  assert.equal(logprobs?.token_logprobs?.[1], fakeLogprob(ids[1] ?? 0));
  for (const [i, token] of (logprobs?.tokens ?? []).entries()) {
    assert.ok('Once or twice upon'.startsWith(token, logprobs?.text_offset?.[i]), token);
  }
  const chunks = [];
  for await (const chunk of await client.completions.create({
    ...ask({ prompt, echo: true, logprobs: 0 }),
    stream: true,
  }))
    chunks.push(chunk);
  assert.equal(chunks.map((chunk) => chunk.choices[0]?.text).join(''), 'Once or twice upon');
  assert.deepEqual(
    chunks.flatMap((chunk) => chunk.choices[0]?.logprobs?.tokens ?? []),
    logprobs?.tokens,
  );
});

test('max_tokens 0 with echo scores the prompt and shows nothing else', async () => {
  await answers(' upon a time');
  const { choices, usage } = await client.completions.create(
    ask({ prompt: 'Once more', echo: true, logprobs: 1, max_tokens: 0 }),
  );
  assert.equal(choices[0]?.text, 'Once more');
  assert.equal(choices[0]?.finish_reason, 'length');
  assert.equal(choices[0]?.logprobs?.tokens?.length, (await tokensOf('Once more')).length);
  assert.equal(usage?.completion_tokens, 0);
});

test('tokenize and detokenize are inverse, for texts and for messages', async () => {
  const post = async (path: string, body: object): Promise<Record<string, unknown>> =>
    (await gateway.fetch(path, body)).json() as never;
  const text = 'Hello 😀 world';
  const tokenized = await post('/tokenize', { model: 'tiny', prompt: text, return_token_strs: true });
  assert.deepEqual(tokenized['tokens'], await tokensOf(text));
  assert.equal(tokenized['count'], (await tokensOf(text)).length);
  assert.equal(tokenized['max_model_len'], 4096);
  assert.equal((tokenized['token_strs'] as string[]).length, tokenized['count']);
  assert.deepEqual(await post('/detokenize', { model: 'tiny', tokens: tokenized['tokens'] }), { prompt: text });
  assert.deepEqual(await post('/detokenize', { tokens: [] }), { prompt: '' });
  const chat = await post('/tokenize', { messages: [{ role: 'user', content: 'Hi' }], enable_thinking: false });
  const rendered = await post('/detokenize', { tokens: chat['tokens'] });
  assert.equal(rendered['prompt'], '<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n');
});

test('best_of generates more and returns the likeliest by their mean log-probability', async () => {
  const endings = await Promise.all([' x', ' y y', ' z z z', ' the end'].map(tokensOf));
  const byChoice = await GatewayUnderTest.start(
    {},
    { script: (request) => ({ tokens: endings[request.choice] ?? [], finished: {} }) },
  );
  try {
    const mean = (ids: readonly number[]): number => ids.reduce((sum, id) => sum + fakeLogprob(id), 0) / ids.length;
    const expected = endings.toSorted((a, b) => mean(b) - mean(a)).map((ids) => tinyAssets().tokenizer.decode(ids));
    const completion = await byChoice.client().completions.create(ask({ best_of: 4, n: 2, max_tokens: 8 }));
    assert.deepEqual(
      completion.choices.map((choice) => choice.text),
      expected.slice(0, 2),
    );
    assert.deepEqual(
      completion.choices.map(({ index, logprobs }) => [index, logprobs]),
      [
        [0, null],
        [1, null],
      ],
    );
    assert.equal(completion.usage?.completion_tokens, endings.flat().length, 'all of them were generated');
    const two = await byChoice.client().completions.create(ask({ prompt: ['a', 'b'], best_of: 4, logprobs: 1 }));
    assert.deepEqual(
      two.choices.map((choice) => [choice.text, choice.logprobs?.tokens?.length]),
      [expected[0], expected[0]].map((text) => [
        text,
        endings.find((ids) => tinyAssets().tokenizer.decode(ids) === text)?.length,
      ]),
    );
  } finally {
    await byChoice.stop();
  }
});
