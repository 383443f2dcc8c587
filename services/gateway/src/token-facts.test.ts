import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { fakeLogprob, type FakeScript } from '../../../test/fakes/fake-router.ts';
import { chatChunk, chatResponse } from './schema/chat.ts';
import { completionResponse } from './schema/completion.ts';
import { rendered, renderedList } from './schema/render.ts';
import { GatewayUnderTest, tinyAssets, tokensOf } from './testing/gateway-under-test.ts';

let gateway: GatewayUnderTest;
let script: FakeScript;
let answer: number[];
let end: number;

before(async () => {
  gateway = await GatewayUnderTest.start({ apiKey: ['key'] }, { script: () => script });
  end = tinyAssets().generation.eosIds[0] ?? 0;
  answer = await tokensOf('a thought</think>an answer, of a few tokens');
  script = { tokens: [...answer, end], finished: { stopTokenId: end } };
});
after(() => gateway.stop());

const KEY = { headers: { authorization: 'Bearer key' } };
const CHAT = { model: 'tiny', messages: [{ role: 'user', content: 'Hi' }] };

async function post(
  path: string,
  body: unknown,
  init: RequestInit = KEY,
): Promise<{ status: number; value: Record<string, unknown> }> {
  const response = await gateway.fetch(path, body, init);
  return { status: response.status, value: (await response.json()) as Record<string, unknown> };
}

async function chunks(path: string, body: object): Promise<Record<string, unknown>[]> {
  const text = await (await gateway.fetch(path, { ...body, stream: true }, KEY)).text();
  return [...text.matchAll(/^data: (\{.*\})$/gm)].map(
    (match) => JSON.parse(match[1] as string) as Record<string, unknown>,
  );
}

type Choice = Record<string, unknown> & { index: number };
const choicesOf = (value: Record<string, unknown>): Choice[] => value['choices'] as Choice[];

test('token ids of prompt and answer are returned where they are asked for, the end token too', async () => {
  const { value } = await post('/v1/chat/completions', { ...CHAT, n: 2, return_token_ids: true });
  assert.equal(chatResponse.safeParse(value).error, undefined);
  assert.deepEqual(value['prompt_token_ids'], gateway.router.calls.at(-1)?.request.promptIds);
  for (const choice of choicesOf(value)) assert.deepEqual(choice['token_ids'], script.tokens);
  const plain = await post('/v1/chat/completions', CHAT);
  assert.ok(!('prompt_token_ids' in plain.value) && !('token_ids' in (choicesOf(plain.value)[0] as Choice)));
});

test('streamed ids join to the whole, with and without log-probabilities', async () => {
  for (const more of [{}, { logprobs: true }, { n: 2 }, { stop: ['few'] }]) {
    const all = await chunks('/v1/chat/completions', { ...CHAT, ...more, return_token_ids: true });
    for (const chunk of all) assert.equal(chatChunk.safeParse(chunk).error, undefined);
    const prompt = gateway.router.calls.at(-1)?.request.promptIds;
    const n = 'n' in more ? 2 : 1;
    const first = all.filter((chunk) => 'prompt_token_ids' in chunk);
    assert.deepEqual(
      first.map((chunk) => chunk['prompt_token_ids']),
      Array.from({ length: n }, () => prompt),
    );
    for (let index = 0; index < n; index++) {
      const ids = all
        .flatMap(choicesOf)
        .filter((choice) => choice.index === index)
        .flatMap((choice) => (choice['token_ids'] ?? []) as number[]);
      const expected = 'stop' in more ? script.tokens.slice(0, ids.length) : script.tokens;
      assert.deepEqual(ids, expected);
      assert.ok(ids.length > 5);
    }
  }
});

test('ids stand beside tool calls and reasoning in every choice, and those of a stream join to the whole', async () => {
  const call = '<tool_call>\n<function=clock>\n<parameter=zone>\nParis\n</parameter>\n</function>\n</tool_call>';
  const before = script;
  script = {
    tokens: [...(await tokensOf(`Hm.</think>\n\nI look.\n\n${call}\n\nDone.`)), end],
    finished: before.finished ?? {},
  };
  try {
    const tools = [{ type: 'function', function: { name: 'clock' } }];
    const asked = { ...CHAT, tools, n: 3, return_token_ids: true };
    const { value } = await post('/v1/chat/completions', asked);
    assert.equal(chatResponse.safeParse(value).error, undefined);
    assert.deepEqual(value['prompt_token_ids'], gateway.router.calls.at(-1)?.request.promptIds);
    for (const { message, token_ids: ids } of choicesOf(value)) {
      const { content, reasoning, tool_calls: calls } = message as Record<string, unknown>;
      assert.deepEqual([reasoning, content, (calls as unknown[]).length], ['Hm.', 'I look.\n\n\n\nDone.', 1]);
      assert.deepEqual(ids, script.tokens);
    }
    const all = await chunks('/v1/chat/completions', asked);
    for (const chunk of all) assert.equal(chatChunk.safeParse(chunk).error, undefined);
    // Each choice begins with a chunk of its own, which has the prompt.
    assert.deepEqual(
      all.filter((chunk) => 'prompt_token_ids' in chunk).flatMap((chunk) => choicesOf(chunk).map(({ index }) => index)),
      [0, 1, 2],
    );
    for (const index of [0, 1, 2]) {
      const own = all.flatMap(choicesOf).filter((choice) => choice.index === index);
      assert.deepEqual(
        own.flatMap((choice) => (choice['token_ids'] ?? []) as number[]),
        script.tokens,
      );
    }
    const response = await gateway.fetch('/v1/chat/completions', { ...asked, parallel_tool_calls: false }, KEY);
    const [first] = choicesOf((await response.json()) as Record<string, unknown>);
    const ids = first?.['token_ids'] as number[];
    assert.deepEqual(ids, script.tokens.slice(0, ids.length));
    assert.ok(ids.length < script.tokens.length, 'nothing after the last call allowed');
  } finally {
    script = before;
  }
});

test('text completions give ids with each choice, of its own prompt', async () => {
  const prompts = [await tokensOf('Once'), await tokensOf('Twice upon')];
  const { value } = await post('/v1/completions', {
    model: 'tiny',
    prompt: prompts,
    n: 2,
    max_tokens: 64,
    return_token_ids: true,
  });
  assert.equal(completionResponse.safeParse(value).error, undefined);
  assert.deepEqual(
    choicesOf(value).map((choice) => choice['prompt_token_ids']),
    [prompts[0], prompts[0], prompts[1], prompts[1]],
  );
  for (const choice of choicesOf(value)) assert.deepEqual(choice['token_ids'], script.tokens);
  const all = await chunks('/v1/completions', {
    model: 'tiny',
    prompt: 'Once',
    max_tokens: 64,
    echo: true,
    return_token_ids: true,
  });
  for (const chunk of all) assert.equal(completionResponse.safeParse(chunk).error, undefined);
  const pieces = all.flatMap(choicesOf);
  assert.deepEqual(
    pieces.flatMap((choice) => (choice['prompt_token_ids'] ?? []) as number[]),
    prompts[0],
  );
  assert.deepEqual(
    pieces.flatMap((choice) => (choice['token_ids'] ?? []) as number[]),
    script.tokens,
  );
  assert.match(pieces.map((choice) => choice['text']).join(''), /^Once/);
});

interface Entry {
  logprob: number;
  rank: number | null;
  decoded_token: string;
}

function checkPrompt(shown: (Record<string, Entry> | null)[], ids: readonly number[], alternatives: number): void {
  assert.equal(shown.length, ids.length);
  assert.equal(shown[0], null);
  for (const [index, entries] of shown.entries()) {
    if (entries === null) continue;
    const id = ids[index] as number;
    const own = entries[String(id)];
    assert.equal(own?.logprob, fakeLogprob(id));
    assert.equal(own?.decoded_token, tinyAssets().tokenizer.decode([id], { skipSpecial: false }));
    assert.ok(
      Object.keys(entries).length >= Math.max(1, alternatives) && Object.keys(entries).length <= alternatives + 1,
    );
    const ranks = Object.values(entries)
      .flatMap(({ rank }) => (rank === null ? [] : [rank]))
      .toSorted((a, b) => a - b);
    assert.deepEqual(
      ranks,
      Array.from({ length: ranks.length }, (_, at) => at + 1),
    );
  }
}

test('prompt_logprobs have the shape of vLLM, beside log-probabilities of another width', async () => {
  for (const alternatives of [0, 3]) {
    const body = { ...CHAT, prompt_logprobs: alternatives, logprobs: true, top_logprobs: 1 };
    const { value } = await post('/v1/chat/completions', body);
    assert.equal(chatResponse.safeParse(value).error, undefined);
    const prompt = gateway.router.calls.at(-1)?.request.promptIds ?? [];
    checkPrompt(value['prompt_logprobs'] as never, prompt, alternatives);
    const content = ((choicesOf(value)[0] as Choice)['logprobs'] as { content: { top_logprobs: unknown[] }[] }).content;
    assert.ok(
      content.every(({ top_logprobs: top }) => top.length === 1),
      'the answer has its own width',
    );
  }
  const { value } = await post('/v1/completions', {
    model: 'tiny',
    prompt: ['Once upon', 'a'],
    max_tokens: 4,
    prompt_logprobs: 2,
  });
  for (const [index, text] of ['Once upon', 'a'].entries()) {
    const choice = choicesOf(value)[index] as Choice;
    checkPrompt(choice['prompt_logprobs'] as never, await tokensOf(text), 2);
    assert.equal(choice['logprobs'], null);
  }
});

test('echo with log-probabilities and prompt_logprobs of another width keep apart', async () => {
  const body = { model: 'tiny', prompt: 'Once upon', max_tokens: 4, echo: true, logprobs: 1, prompt_logprobs: 3 };
  const { value } = await post('/v1/completions', body);
  const choice = choicesOf(value)[0] as Choice;
  checkPrompt(choice['prompt_logprobs'] as never, await tokensOf('Once upon'), 3);
  const tops = (choice['logprobs'] as { top_logprobs: (object | null)[] }).top_logprobs;
  assert.ok(tops.every((top) => top === null || Object.keys(top).length <= 2));
});

test('what cannot be is refused by name', async () => {
  const refusals: [string, object, string][] = [
    ['/v1/chat/completions', { ...CHAT, prompt_logprobs: 1, stream: true }, 'prompt_logprobs'],
    ['/v1/completions', { model: 'tiny', prompt: 'x', prompt_logprobs: 1, stream: true }, 'prompt_logprobs'],
    ['/v1/chat/completions', { ...CHAT, prompt_logprobs: -1 }, 'prompt_logprobs'],
    ['/v1/chat/completions', { ...CHAT, prompt_logprobs: 21 }, 'prompt_logprobs'],
    ['/v1/chat/completions', { ...CHAT, return_token_ids: 'yes' }, 'return_token_ids'],
    ['/v1/chat/completions', { ...CHAT, request_id: 'a b' }, 'request_id'],
  ];
  for (const [path, body, field] of refusals) {
    const { status, value } = await post(path, body);
    assert.equal(status, 400, field);
    assert.equal((value['error'] as { param: string }).param, field);
  }
});

test('tokens of log-probabilities may be written as ids', async () => {
  const body = { ...CHAT, logprobs: true, top_logprobs: 1, return_tokens_as_token_ids: true };
  const { value } = await post('/v1/chat/completions', body);
  const { content } = (choicesOf(value)[0] as Choice)['logprobs'] as {
    content: { token: string; top_logprobs: { token: string }[] }[];
  };
  assert.deepEqual(
    content.map(({ token }) => token),
    answer.map((id) => `token_id:${id}`),
  );
  assert.ok(content.every(({ top_logprobs: top }) => /^token_id:\d+$/.test(top[0]?.token ?? '')));
  const text = await post('/v1/completions', {
    model: 'tiny',
    prompt: 'Once',
    logprobs: 1,
    max_tokens: 64,
    return_tokens_as_token_ids: true,
  });
  const { tokens } = (choicesOf(text.value)[0] as Choice)['logprobs'] as { tokens: string[] };
  assert.deepEqual(
    tokens,
    answer.map((id) => `token_id:${id}`),
  );
});

test('request_id is the X-Request-Id where there is none', async () => {
  const id = async (headers: Record<string, string>, extra: object): Promise<string | null> => {
    const response = await gateway.fetch(
      '/v1/chat/completions',
      { ...CHAT, ...extra },
      { headers: { ...KEY.headers, ...headers } },
    );
    await response.text();
    return response.headers.get('x-request-id');
  };
  assert.equal(await id({}, { request_id: 'mine-1' }), 'mine-1');
  assert.equal(await id({}, { request_id: 'mine-2', stream: true }), 'mine-2');
  assert.equal(await id({ 'x-request-id': 'header' }, { request_id: 'mine' }), 'header');
});

test('render shows what would be generated from, and generates nothing', async () => {
  const body = {
    ...CHAT,
    temperature: 0.25,
    max_tokens: 12,
    stop: 'x',
    stream: true,
    stream_options: { include_usage: true },
    priority: null,
  };
  const before = gateway.router.calls.length;
  const { status, value } = await post('/v1/chat/completions/render', body);
  assert.equal(status, 200);
  assert.equal(rendered.safeParse(value).error, undefined);
  assert.equal(gateway.router.calls.length, before);
  const params = value['sampling_params'] as Record<string, unknown>;
  assert.deepEqual(
    [params['temperature'], params['max_tokens'], params['stop'], params['seed']],
    [0.25, 12, ['x'], null],
  );
  assert.equal(value['stream'], true);
  await post('/v1/chat/completions', { ...CHAT, temperature: 0.25, max_tokens: 12 });
  assert.deepEqual(value['token_ids'], gateway.router.calls.at(-1)?.request.promptIds);
  const text = await post('/detokenize', { tokens: value['token_ids'] });
  assert.equal(value['prompt'], text.value['prompt']);
  const list = await post('/v1/completions/render', { model: 'tiny', prompt: ['Once', 'More'] });
  assert.equal(renderedList.safeParse(list.value).error, undefined);
  assert.deepEqual(
    (list.value as unknown as { token_ids: number[] }[]).map(({ token_ids: ids }) => ids),
    [await tokensOf('Once'), await tokensOf('More')],
  );
  assert.equal((await post('/v1/chat/completions/render', { ...CHAT, model: 'other' })).status, 404);
  assert.equal((await post('/v1/chat/completions/render', { ...CHAT, temperature: 9 })).status, 400);
  assert.equal((await gateway.fetch('/v1/chat/completions/render', CHAT)).status, 401);
});

test('/version has the release; /ping needs no key and says whether requests can be served', async () => {
  assert.match(
    String(((await (await gateway.fetch('/version', undefined, KEY)).json()) as { version: string }).version),
    /^\d+\.\d+/,
  );
  assert.equal((await gateway.fetch('/version')).status, 401);
  for (const init of [
    {},
    { method: 'POST' },
    { method: 'POST', body: 'x', headers: { 'content-type': 'text/plain' } },
  ]) {
    const response = await gateway.fetch('/ping', undefined, init);
    assert.equal(response.status, 200);
    assert.equal(await response.text(), '');
  }
});

test('what models of this kind cannot do is said as 404, whatever the body', async () => {
  const form = new FormData();
  form.set('file', new Blob(['x']), 'x.wav');
  for (const path of [
    '/v1/embeddings',
    '/v1/audio/transcriptions',
    '/v1/images/generations',
    '/v1/moderations',
    '/rerank',
    '/score',
    '/pooling',
  ]) {
    for (const init of [
      { method: 'POST', body: form },
      { method: 'POST', body: '{broken', headers: { 'content-type': 'application/json' } },
      {},
    ]) {
      const headers = { ...KEY.headers, ...('headers' in init ? init.headers : {}) };
      const response = await fetch(`${gateway.url}${path}`, { ...init, headers });
      assert.equal(response.status, 404, path);
      const { error } = (await response.json()) as { error: { code: string; message: string; param: string } };
      assert.equal(error.code, 'not_found');
      assert.match(error.message, /the served models generate text and cannot/);
    }
    assert.equal((await fetch(`${gateway.url}${path}`, { method: 'POST' })).status, 401, 'the key comes first');
  }
});
