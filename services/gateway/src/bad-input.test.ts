import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { after, before, test } from 'node:test';
import { fail } from '@guildhall/common';
import OpenAI from 'openai';
import type { FakeScript } from '../../../test/fakes/fake-router.ts';
import { errorResponse } from './schema/error.ts';
import { GatewayUnderTest, tinyAssets, tokensOf } from './testing/gateway-under-test.ts';

let gateway: GatewayUnderTest;
let script: FakeScript;

before(async () => {
  script = { tokens: await tokensOf('x</think>fine') };
  gateway = await GatewayUnderTest.start({}, { script: () => script });
});
// Whatever was sent before, everyone else is served.
after(async () => {
  const { choices } = await gateway
    .client()
    .chat.completions.create({ model: 'tiny', messages: [{ role: 'user', content: 'Hi' }] });
  assert.equal(choices[0]?.message.content, 'fine');
  assert.equal(gateway.context.inFlight.size, 0);
  await gateway.stop();
});

interface ErrorBody {
  message: string;
  type: string;
  param: string | null;
  code: string;
}

async function errorOf(response: Response, status: number): Promise<ErrorBody> {
  const body: unknown = await response.json();
  assert.equal(response.status, status, JSON.stringify(body));
  assert.equal(errorResponse.safeParse(body).error, undefined);
  assert.match(response.headers.get('content-type') ?? '', /^application\/json/);
  return (body as { error: ErrorBody }).error;
}

const USER = { role: 'user', content: 'Hi' };
const chat = (extra: object): object => ({ model: 'tiny', messages: [USER], ...extra });

/** Sends a chat request and expects a refusal before any router was asked. */
async function refused(body: object | string, code: string, param: string | null, status = 400): Promise<ErrorBody> {
  const calls = gateway.router.calls.length;
  const error = await errorOf(await gateway.fetch('/v1/chat/completions', body), status);
  assert.equal(error.code, code, error.message);
  assert.equal(error.param, param, error.message);
  assert.equal(gateway.router.calls.length, calls);
  return error;
}

test('malformed JSON, an empty body and a body that is no object are refused', async () => {
  await refused('{"model": "tiny", "messages": [', 'invalid_json', null);
  await refused('not json', 'invalid_json', null);
  await refused('', 'invalid_json', null);
  await refused('[]', 'invalid_type', null);
  await refused('"text"', 'invalid_type', null);
  await refused('{"__proto__": {"a": 1}, "model": "tiny", "messages": []}', 'invalid_json', null);
});

test('a body that is not JSON by its type is refused, so that no web page can post one unasked', async () => {
  const response = await gateway.fetch('/v1/chat/completions', JSON.stringify(chat({})), {
    headers: { 'content-type': 'text/plain' },
  });
  assert.equal((await errorOf(response, 415)).param, 'content-type');
});

test('wrong types are named', async () => {
  const wrong: [object, string][] = [
    [{ model: 5 }, 'model'],
    [{ messages: 'Hi' }, 'messages'],
    [{ messages: [{ role: 'user', content: 5 }] }, 'messages[0].content'],
    [{ messages: ['Hi'] }, 'messages[0]'],
    [{ messages: [USER, { role: 'user', content: [{ type: 'text', text: 1 }] }] }, 'messages[1].content[0].text'],
    [{ temperature: 'hot' }, 'temperature'],
    [{ max_tokens: '5' }, 'max_tokens'],
    [{ n: 1.5 }, 'n'],
    [{ stream: 'yes' }, 'stream'],
    [{ stop: 5 }, 'stop'],
    [{ stop: ['a', 5] }, 'stop[1]'],
    [{ logit_bias: { '5': 'x' } }, 'logit_bias.5'],
    [{ logprobs: 3 }, 'logprobs'],
    [{ seed: 'a' }, 'seed'],
    [{ chat_template_kwargs: [] }, 'chat_template_kwargs'],
    [{ tools: [{ type: 'function', function: 5 }] }, 'tools[0].function'],
    [{ stop_token_ids: ['a'] }, 'stop_token_ids[0]'],
  ];
  for (const [extra, param] of wrong) await refused(chat(extra), 'invalid_type', param);
});

test('missing and unknown fields are named', async () => {
  await refused({ messages: [USER] }, 'missing_field', 'model');
  await refused({ model: 'tiny' }, 'missing_field', 'messages');
  await refused(chat({ messages: [{ content: 'Hi' }] }), 'missing_field', 'messages[0].role');
  await refused(chat({ messages: [{ role: 'user' }] }), 'missing_field', 'messages[0].content');
  await refused(chat({ temprature: 1 }), 'unknown_field', 'temprature');
  await refused(chat({ messages: [{ ...USER, contents: 'x' }] }), 'unknown_field', 'messages[0].contents');
  await refused(chat({ chat_template: '{{ messages }}' }), 'unknown_field', 'chat_template');
});

test('negative and huge parameters are refused by name', async () => {
  const wrong: [object, string][] = [
    [{ temperature: -1 }, 'temperature'],
    [{ temperature: 1e300 }, 'temperature'],
    [{ top_p: -0.1 }, 'top_p'],
    [{ top_p: 2 }, 'top_p'],
    [{ top_k: -2 }, 'top_k'],
    [{ top_k: 2 ** 40 }, 'top_k'],
    [{ min_p: 1.5 }, 'min_p'],
    [{ repetition_penalty: 0 }, 'repetition_penalty'],
    [{ presence_penalty: 3 }, 'presence_penalty'],
    [{ frequency_penalty: -3 }, 'frequency_penalty'],
    [{ n: 0 }, 'n'],
    [{ n: -1 }, 'n'],
    [{ n: 129 }, 'n'],
    [{ max_tokens: 0 }, 'max_tokens'],
    [{ max_tokens: -5 }, 'max_tokens'],
    [{ max_tokens: 2 ** 53 }, 'max_tokens'],
    [{ max_completion_tokens: -1 }, 'max_completion_tokens'],
    [{ min_tokens: -1 }, 'min_tokens'],
    [{ min_tokens: 10, max_tokens: 5 }, 'min_tokens'],
    [{ seed: 2 ** 60 }, 'seed'],
    [{ logprobs: true, top_logprobs: 21 }, 'top_logprobs'],
    [{ top_logprobs: 2 }, 'top_logprobs'],
    [{ logit_bias: { '5': 101 } }, 'logit_bias.5'],
    [{ logit_bias: { abc: 1 } }, 'logit_bias.abc'],
    [{ logit_bias: { '99999999': 1 } }, 'logit_bias'],
    [{ logit_bias: Object.fromEntries(Array.from({ length: 1025 }, (_, i) => [i, 1])) }, 'logit_bias'],
    [{ stop_token_ids: [99_999_999] }, 'stop_token_ids'],
    [{ stop: '' }, 'stop'],
    [{ stop: 'x'.repeat(1025) }, 'stop'],
    [{ stop: ['ok', '😀'.repeat(257)] }, 'stop[1]'],
    [{ stop_token_ids: Array.from({ length: 257 }, (_, id) => id) }, 'stop_token_ids'],
    [{ stream_options: { include_usage: true } }, 'stream_options'],
    [{ continue_final_message: true, add_generation_prompt: true }, 'continue_final_message'],
    [{ chat_template_kwargs: { messages: [] } }, 'chat_template_kwargs.messages'],
  ];
  for (const [extra, param] of wrong) await refused(chat(extra), 'invalid_value', param);
});

test('10,000 stop strings are refused', async () => {
  await refused(chat({ stop: Array.from({ length: 10_000 }, (_, i) => `s${i}`) }), 'invalid_value', 'stop');
});

test('messages: none, too many, unknown roles, broken calls and what the template refuses', async () => {
  await refused(chat({ messages: [] }), 'invalid_value', 'messages');
  await refused(chat({ messages: Array.from({ length: 2049 }, () => USER) }), 'invalid_value', 'messages');
  await refused(chat({ messages: [{ role: 'robot', content: 'Hi' }] }), 'invalid_value', 'messages[0].role');
  await refused(chat({ messages: [{ role: 'user', content: [] }] }), 'invalid_value', 'messages[0].content');
  await refused(chat({ messages: [{ role: 'system', content: 'Only a system turn' }] }), 'invalid_value', 'messages');
  const call = { id: 'c', type: 'function', function: { name: 'f', arguments: '{broken' } };
  const error = await refused(
    chat({ messages: [USER, { role: 'assistant', content: null, tool_calls: [call] }] }),
    'invalid_value',
    'messages',
  );
  assert.match(error.message, /messages\[1\]\.tool_calls\[0\]\.function\.arguments/);
});

test('media parts are refused until there is vision', async () => {
  for (const type of ['image_url', 'video_url', 'input_audio', 'file']) {
    const parts = [
      { type: 'text', text: 'What is this?' },
      { type, [type]: { url: 'data:,' } },
    ];
    await refused(chat({ messages: [{ role: 'user', content: parts }] }), 'unsupported', 'messages[0].content[1].type');
  }
});

test('OpenAI parameters that have no effect here are refused by name', async () => {
  const unsupported: [object, string][] = [
    [
      { response_format: { type: 'json_schema', json_schema: { name: 'x', schema: { not: {} } } } },
      'response_format.json_schema.schema',
    ],
    [{ moderation: { model: 'x' } }, 'moderation'],
    [{ stream: true, stream_options: { continuous_usage_stats: true } }, 'stream_options.continuous_usage_stats'],
    [{ audio: { voice: 'x', format: 'wav' } }, 'audio'],
    [{ modalities: ['text', 'audio'] }, 'modalities'],
    [{ web_search_options: {} }, 'web_search_options'],
    [{ store: true }, 'store'],
  ];
  for (const [extra, param] of unsupported) await refused(chat(extra), 'unsupported', param);
  const suffix = await errorOf(
    await gateway.fetch('/v1/completions', { model: 'tiny', prompt: 'a', suffix: 'b' }),
    400,
  );
  assert.deepEqual([suffix.code, suffix.param], ['unsupported', 'suffix']);
});

test('best_of is at least n, and a stream has none', async () => {
  for (const extra of [{ best_of: 2, n: 3 }, { best_of: 2, stream: true }, { best_of: 0 }, { best_of: 129 }]) {
    const error = await errorOf(await gateway.fetch('/v1/completions', { model: 'tiny', prompt: 'a', ...extra }), 400);
    assert.deepEqual([error.code, error.param], ['invalid_value', 'best_of'], JSON.stringify(extra));
  }
});

test('a tool choice is one of the documented ones and names tools that there are', async () => {
  const tools = [{ type: 'function', function: { name: 'f' } }];
  const named = (name: string): object => ({ type: 'function', function: { name } });
  const wrong: [object, string, string][] = [
    [{ tool_choice: 'required' }, 'invalid_value', 'tool_choice'],
    [{ tool_choice: 'required', tools: [] }, 'invalid_value', 'tool_choice'],
    [{ tool_choice: named('f') }, 'invalid_value', 'tool_choice'],
    [{ tool_choice: named('g'), tools }, 'invalid_value', 'tool_choice'],
    [{ tool_choice: 'always', tools }, 'invalid_value', 'tool_choice'],
    [{ tool_choice: { type: 'function' }, tools }, 'missing_field', 'tool_choice.function'],
    [
      { tool_choice: { type: 'allowed_tools', allowed_tools: { mode: 'auto', tools: [named('g')] } }, tools },
      'invalid_value',
      'tool_choice',
    ],
    [{ tools: [{ type: 'function', function: { name: 'f g' } }] }, 'invalid_value', 'tools[0].function.name'],
    [{ tools, parallel_tool_calls: 'no' }, 'invalid_type', 'parallel_tool_calls'],
    [{ thinking_token_budget: -1 }, 'invalid_value', 'thinking_token_budget'],
    [{ thinking_token_budget: 1.5 }, 'invalid_type', 'thinking_token_budget'],
    [{ chat_template_kwargs: { thinking_budget: 'x' } }, 'invalid_value', 'chat_template_kwargs.thinking_budget'],
    [{ service_tier: 'gold' }, 'invalid_value', 'service_tier'],
  ];
  for (const [extra, code, param] of wrong) await refused(chat(extra), code, param);
});

test('wrong prompts of a text completion are named', async () => {
  const size = tinyAssets().tokenizer.size;
  const wrong: [unknown, string, string][] = [
    ['', 'invalid_value', 'prompt'],
    [[], 'invalid_value', 'prompt'],
    [null, 'invalid_type', 'prompt'],
    [5, 'invalid_type', 'prompt'],
    [{}, 'invalid_type', 'prompt'],
    [['a', 5], 'invalid_type', 'prompt[1]'],
    [['a', ''], 'invalid_value', 'prompt[1]'],
    [[5, 'a'], 'invalid_type', 'prompt[1]'],
    [[5, 1.5], 'invalid_type', 'prompt[1]'],
    [[[5], [-1]], 'invalid_type', 'prompt[1][0]'],
    [[size], 'invalid_value', 'prompt'],
    [Array.from({ length: 1025 }, () => 'a'), 'invalid_value', 'prompt'],
  ];
  for (const [prompt, code, param] of wrong) {
    const error = await errorOf(await gateway.fetch('/v1/completions', { model: 'tiny', prompt }), 400);
    assert.deepEqual([error.code, error.param], [code, param], JSON.stringify(prompt)?.slice(0, 40));
  }
  const missing = await errorOf(await gateway.fetch('/v1/completions', { model: 'tiny' }), 400);
  assert.deepEqual([missing.code, missing.param], ['missing_field', 'prompt']);
  const many = await errorOf(
    await gateway.fetch('/v1/completions', { model: 'tiny', prompt: Array.from({ length: 100 }, () => 'a'), n: 11 }),
    400,
  );
  assert.equal(many.param, 'n');
  const nothing = await errorOf(
    await gateway.fetch('/v1/completions', { model: 'tiny', prompt: 'a', max_tokens: 0 }),
    400,
  );
  assert.equal(nothing.param, 'max_tokens');
});

test('tokenize and detokenize refuse what makes no sense', async () => {
  const wrong: [string, object, string, string][] = [
    ['/tokenize', {}, 'missing_field', 'prompt'],
    ['/tokenize', { prompt: 'a', messages: [USER] }, 'invalid_value', 'prompt'],
    ['/tokenize', { prompt: 'a', model: 'other' }, 'model_not_found', 'model'],
    ['/detokenize', {}, 'missing_field', 'tokens'],
    ['/detokenize', { tokens: 'abc' }, 'invalid_type', 'tokens'],
    ['/detokenize', { tokens: [1, 'a'] }, 'invalid_type', 'tokens[1]'],
    ['/detokenize', { tokens: [99_999_999] }, 'invalid_value', 'tokens'],
  ];
  for (const [path, body, code, param] of wrong) {
    const error = await errorOf(await gateway.fetch(path, body), code === 'model_not_found' ? 404 : 400);
    assert.deepEqual([error.code, error.param], [code, param], `${path} ${JSON.stringify(body)}`);
  }
});

test('an unknown model is a 404 for the official client', async () => {
  await assert.rejects(
    gateway.client().chat.completions.create({ model: 'gpt-7', messages: [{ role: 'user', content: 'Hi' }] }),
    (err) => {
      assert.ok(err instanceof OpenAI.NotFoundError);
      assert.equal(err.code, 'model_not_found');
      assert.equal(err.param, 'model');
      return true;
    },
  );
  await assert.rejects(gateway.client().models.retrieve('gpt-7'), OpenAI.NotFoundError);
});

test('a prompt over the context is refused with the numbers', async () => {
  const long = 'word '.repeat(6000);
  const error = await refused(
    chat({ messages: [{ role: 'user', content: long }] }),
    'context_length_exceeded',
    'messages',
  );
  assert.match(
    error.message,
    /maximum context length is 4096 tokens\. However, you requested \d+ tokens \(\d+ in the messages, 1 in the completion\)/,
  );
  const tight = await refused(chat({ max_tokens: 4096 }), 'context_length_exceeded', 'messages');
  assert.match(tight.message, /4096 in the completion/);
  const prompt = await errorOf(
    await gateway.fetch('/v1/completions', { model: 'tiny', prompt: 'a', max_tokens: 5000 }),
    400,
  );
  assert.deepEqual([prompt.code, prompt.param], ['context_length_exceeded', 'prompt']);
});

test('a body of 10 MB is refused with 413', async () => {
  const body = JSON.stringify(chat({ messages: [{ role: 'user', content: 'x'.repeat(10_000_000) }] }));
  const error = await refused(body, 'body_too_large', null, 413);
  assert.match(error.message, /8388608 bytes/);
  await assert.rejects(
    gateway
      .client()
      .chat.completions.create({ model: 'tiny', messages: [{ role: 'user', content: 'x'.repeat(10_000_000) }] }),
    (err) => err instanceof OpenAI.APIError && err.status === 413,
  );
});

test('bodies made to exhaust a validator are refused early', async () => {
  await refused(chat({ stop: Array.from({ length: 1_000_000 }, () => 0) }), 'invalid_value', 'stop');
  await refused(
    `{"model":"tiny","messages":${'['.repeat(100_000)}${']'.repeat(100_000)}}`,
    'invalid_value',
    'messages',
  );
  const ids = Array.from({ length: 1_000_000 }, () => 1.5);
  const error = await errorOf(await gateway.fetch('/v1/completions', { model: 'tiny', prompt: ids }), 400);
  assert.equal(error.param, 'prompt[0]');
});

test('what the framework refuses by itself has a request id too', async () => {
  for (const path of ['/v1/responses/%ff', `/v1/responses/${'a'.repeat(600)}`]) {
    const response = await gateway.fetch(path, undefined, { headers: { 'x-request-id': 'mine' } });
    assert.equal((await errorOf(response, 404)).code, 'not_found');
    assert.equal(response.headers.get('x-request-id'), 'mine');
  }
});

test('unknown paths are 404 and wrong methods 405 with the right ones', async () => {
  assert.equal((await errorOf(await gateway.fetch('/v1/nothing'), 404)).code, 'not_found');
  assert.equal((await errorOf(await gateway.fetch('/v1/completions/extra'), 404)).code, 'not_found');
  const wrong = await gateway.fetch('/v1/chat/completions');
  assert.equal(wrong.headers.get('allow'), 'POST');
  assert.equal((await errorOf(wrong, 405)).code, 'method_not_allowed');
  const models = await gateway.fetch('/v1/models', {}, { method: 'DELETE' });
  assert.equal(models.headers.get('allow'), 'GET, HEAD');
  assert.equal(models.status, 405);
});

/** Sends raw bytes and returns all that comes back. */
async function raw(bytes: string): Promise<string> {
  const { port } = new URL(gateway.url);
  const socket = connect(Number(port), '127.0.0.1', () => socket.end(bytes));
  let text = '';
  for await (const chunk of socket) text += String(chunk);
  return text;
}

test('what is no HTTP request, and headers without end, get an error of the same shape', async () => {
  const garbage = await raw('\x16\x03\x01 hello\r\n\r\n');
  assert.match(garbage, /^HTTP\/1\.1 400 /);
  assert.match(garbage, /"code":"invalid_value"/);
  const long = await raw(`GET /${'a'.repeat(100_000)} HTTP/1.1\r\nhost: x\r\n\r\n`);
  assert.match(long, /^HTTP\/1\.1 431 /);
  const badUrl = await raw('GET /%zz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n');
  assert.match(badUrl, /^HTTP\/1\.1 4\d\d /);
  assert.match(badUrl, /"error":\{"message"/);
});

test('an error of the router reaches the client with its code', async () => {
  gateway.router.failNext(fail('expert_unavailable', 'no worker holds expert 3'));
  const error = await errorOf(await gateway.fetch('/v1/chat/completions', chat({})), 503);
  assert.deepEqual([error.code, error.message], ['expert_unavailable', 'no worker holds expert 3']);
  gateway.router.failNext(fail('queue_full', 'the queue is full'));
  const busy = await gateway.fetch('/v1/chat/completions', chat({ stream: true }));
  assert.equal(busy.headers.get('retry-after'), '1');
  assert.equal((await errorOf(busy, 503)).code, 'queue_full');
});
