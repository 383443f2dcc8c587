import assert from 'node:assert/strict';
import { request } from 'node:http';
import { after, before, test } from 'node:test';
import { eventually } from '@guildhall/common/testing';
import { readSamples, sumOf } from '../../../test/harness/samples.ts';
import { MAX_COUNTED } from './prompt.ts';
import { GatewayUnderTest, tokensOf } from './testing/gateway-under-test.ts';

let gateway: GatewayUnderTest;
before(async () => {
  const tokens = await tokensOf('x</think>fine');
  gateway = await GatewayUnderTest.start({ bodyLimitBytes: 10 << 20 }, { script: () => ({ tokens }) });
});
after(() => gateway.stop());

const SPACES = ' '.repeat(8_000_000);
const WORDS = 'some words '.repeat(700_000);
const ask = (content: string): object => ({ model: 'tiny', messages: [{ role: 'user', content }], max_tokens: 4 });

interface Refusal {
  status: number;
  code: string;
  param: string | null;
  message: string;
}

async function refusalOf(path: string, body: object): Promise<Refusal> {
  const response = await gateway.fetch(path, body);
  const { error } = (await response.json()) as { error: Omit<Refusal, 'status'> };
  return { ...error, status: response.status };
}

test('millions of spaces are refused by the field that they stand in, wherever text is tokenized', async () => {
  const cases: [string, object, string][] = [
    ['/tokenize', { prompt: SPACES }, 'prompt'],
    ['/tokenize', { messages: [{ role: 'user', content: `a${SPACES}b` }] }, 'messages'],
    ['/v1/completions', { model: 'tiny', prompt: SPACES }, 'prompt'],
    ['/v1/completions/render', { model: 'tiny', prompt: SPACES }, 'prompt'],
    ['/v1/chat/completions', ask(`a${'='.repeat(2_000_000)}b`), 'messages'],
    ['/v1/responses', { model: 'tiny', store: false, input: `a${'x'.repeat(8_000_000)}` }, 'input'],
  ];
  for (const [path, body, field] of cases) {
    const { status, code, param, message } = await refusalOf(path, body);
    assert.deepEqual([status, code, param], [400, 'invalid_value', field], path);
    assert.match(message, /characters without the end of a word/, path);
  }
});

test('a prompt is encoded no further than the context goes', async () => {
  for (const [path, body] of [
    ['/v1/chat/completions', ask(WORDS)],
    ['/v1/completions', { model: 'tiny', prompt: WORDS }],
    ['/v1/chat/completions/render', ask(WORDS)],
  ] as const) {
    const { status, code, message } = await refusalOf(path, body);
    assert.deepEqual([status, code], [400, 'context_length_exceeded']);
    const [, tokens] = /requested at least (\d+) tokens/.exec(message) ?? [];
    assert.ok(Number(tokens) > 4096 && Number(tokens) < 100_000, message);
  }
});

test('prompts are counted up to a number of tokens', async () => {
  const { status, param, message } = await refusalOf('/tokenize', { prompt: WORDS });
  assert.deepEqual([status, param], [400, 'prompt']);
  assert.match(message, new RegExp(`more than ${MAX_COUNTED} tokens`));
  const long = WORDS.slice(0, 400_000);
  const counted = (await (await gateway.fetch('/tokenize', { prompt: long })).json()) as { count: number };
  const whole = await gateway.context.assets.tokenizer.encode(long);
  assert.ok(counted.count === whole.length && counted.count > 50_000);
});

test('a client that goes away takes its prompt with it', async (t) => {
  const cancelled = async (): Promise<number> =>
    sumOf(readSamples(await (await gateway.fetch('/metrics')).text()), 'guildhall_errors_total', 'code="cancelled"');
  const before = await cancelled();
  const { mock } = t.mock.method(gateway.context.assets.tokenizer, 'encode');
  for (const [path, body] of [
    ['/tokenize', { prompt: WORDS }],
    ['/v1/completions', { model: 'tiny', prompt: Array.from({ length: 1000 }, () => 'some words '.repeat(200)) }],
  ] as const) {
    const calls = mock.callCount();
    const headers = { 'content-type': 'application/json' };
    const call = request(`${gateway.url}${path}`, { method: 'POST', headers }).on('error', () => undefined);
    call.end(JSON.stringify(body));
    await eventually(() => mock.callCount() > calls, 'the prompt to be tokenized');
    call.destroy();
  }
  await eventually(async () => (await cancelled()) === before + 2, 'the end of it');
});
