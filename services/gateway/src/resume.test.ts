import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { fail } from '@guildhall/common';
import { eventually } from '@guildhall/common/testing';
import type OpenAI from 'openai';
import type { FakeRouter, FakeScript } from '../../../test/fakes/fake-router.ts';
import { GatewayUnderTest, tokensOf } from './testing/gateway-under-test.ts';

const TEXT = 'I think 😀.\n</think>\n\nA long answer 👩‍👩‍👧‍👦 of many words, with a STOP';
let gateway: GatewayUnderTest;
let client: OpenAI;
let script: FakeScript;
let expected: { content: string; reasoning: string };

const options = { script: (): FakeScript => script };

before(async () => {
  script = { tokens: await tokensOf(TEXT), finished: { stopString: 'STOP' } };
  gateway = await GatewayUnderTest.start({}, options, options);
  client = gateway.client();
  expected = { content: 'A long answer 👩‍👩‍👧‍👦 of many words, with a ', reasoning: 'I think 😀.' };
});
after(() => gateway.stop());

beforeEach(async () => {
  for (const router of gateway.routers) router.calls.length = 0;
  await eventually(() => gateway.context.pool.usable.length >= 2, 'two routers');
});

const ask = { model: 'tiny', messages: [{ role: 'user' as const, content: 'Hi' }], stop: 'STOP', logprobs: true };

interface Streamed {
  content: string;
  reasoning: string;
  tokens: string[];
  finish: string | null;
  usage: number | undefined;
}

/** Streams an answer and puts it together. */
async function streamed(extra: object = {}): Promise<Streamed> {
  const whole: Streamed = { content: '', reasoning: '', tokens: [], finish: null, usage: undefined };
  for await (const { choices, usage } of await client.chat.completions.create({
    ...ask,
    ...extra,
    stream: true,
    stream_options: { include_usage: true },
  })) {
    whole.usage = usage?.completion_tokens;
    const choice = choices[0];
    if (choice === undefined) continue;
    const delta = choice.delta as { content?: string; reasoning_content?: string };
    whole.content += delta.content ?? '';
    whole.reasoning += delta.reasoning_content ?? '';
    whole.tokens.push(...(choice.logprobs?.content ?? []).map((token) => token.token));
    whole.finish = choice.finish_reason ?? whole.finish;
  }
  return whole;
}

/** Routers that are members now. */
const members = (): FakeRouter[] => gateway.routers.filter((router) => gateway.leases.get(router)?.held);

/** The router that was asked first. */
async function asked(): Promise<FakeRouter> {
  return eventually(() => gateway.routers.find((router) => router.calls.length > 0), 'a router is asked');
}

function assertSame(whole: Streamed): void {
  assert.deepEqual({ content: whole.content, reasoning: whole.reasoning }, expected);
  assert.equal(whole.finish, 'stop');
  assert.equal(whole.usage, script.tokens.length);
  assert.equal(whole.tokens.length, script.tokens.length);
}

test('without a failure the answer is whole', async () => {
  assertSame(await streamed());
});

test('a stream that ends too early goes on elsewhere with its tokens, seed and numerics class', async () => {
  for (const position of [0, 3, script.tokens.length - 1]) {
    for (const router of gateway.routers) router.calls.length = 0;
    for (const router of gateway.routers) router.endAfterToken(position);
    assertSame(await streamed({ seed: 11 }));
    const calls = gateway.routers.flatMap((router) => router.calls);
    const first = calls.find((call) => call.request.generatedIds.length === 0)?.request;
    const resumed = calls.find((call) => call.request.generatedIds.length > 0)?.request;
    assert.equal(calls.length, 2);
    assert.deepEqual(resumed?.generatedIds, script.tokens.slice(0, position + 1));
    assert.deepEqual([first?.numericsId, resumed?.numericsId], ['', gateway.router.member().numericsId]);
    assert.deepEqual(resumed?.sampling, first?.sampling);
    assert.deepEqual(resumed?.promptIds, first?.promptIds);
    assert.deepEqual(resumed?.stop, first?.stop);
    for (const router of gateway.routers) router.endAfterToken(null);
  }
  const metrics = await gateway.metrics.render();
  assert.match(metrics.body, /guildhall_stream_resumes_total\{outcome="resumed"\} 3/);
});

/** Tokens of the log-probabilities of an answer, of either API, whole or streamed. */
async function loggedTokens(path: string, body: object): Promise<string[]> {
  const text = await (await gateway.fetch(path, body)).text();
  const pieces = text.startsWith('{') ? [text] : [...text.matchAll(/^data: (\{.*\})$/gm)].map(([, data]) => data ?? '');
  return pieces
    .flatMap((piece) => (JSON.parse(piece) as { choices: { logprobs: object | null }[] }).choices)
    .flatMap(({ logprobs }) => {
      const { content, tokens } = (logprobs ?? {}) as { content?: { token: string }[]; tokens?: string[] };
      return tokens ?? content?.map(({ token }) => token) ?? [];
    });
}

test('each token has its log-probability once, wherever the stream is cut and whatever was held back there', async () => {
  const before = script;
  script = { ...before, tokens: await tokensOf('Hm.\n</think>\n\nWell,\n\n<tool_call> is <function=f a tag STOP') };
  const tools = [{ type: 'function', function: { name: 'f' } }];
  const bodies: [string, object][] = [
    ['/v1/chat/completions', { ...ask, tools }],
    ['/v1/completions', { model: 'tiny', prompt: 'Hi', max_tokens: 100, stop: 'STOP', logprobs: 0 }],
  ];
  try {
    for (const [path, body] of bodies) {
      const expected = await loggedTokens(path, body);
      assert.equal(expected.length, script.tokens.length);
      for (let position = 0; position < script.tokens.length; position += 2) {
        for (const router of gateway.routers) router.endAfterToken(position);
        const asked = { ...body, stream: position % 4 === 0 };
        assert.deepEqual(await loggedTokens(path, asked), expected, `${path} cut at ${position}`);
      }
    }
  } finally {
    script = before;
    for (const router of gateway.routers) router.endAfterToken(null);
  }
});

test('a router that answers "not ready" before it begins is passed over', async () => {
  for (const router of gateway.routers) router.failNext(fail('not_ready', 'waiting for experts'));
  const refused = await gateway.fetch('/v1/chat/completions', ask);
  assert.equal(refused.status, 503);
  assert.equal(gateway.routers.flatMap((router) => router.calls).length, 2);
  gateway.router.failNext(fail('queue_full', 'full'));
  for (let i = 0; i < 8; i += 1) assertSame(await streamed());
});

test('a router that dies in the middle of a whole answer is not seen by the client', async () => {
  const extra = await gateway.addRouter(options);
  await eventually(() => gateway.context.pool.usable.length === 3, 'three routers');
  for (const router of gateway.routers) router.draining = router !== extra;
  for (const router of gateway.routers) gateway.leases.get(router)?.touch();
  await eventually(() => gateway.context.pool.usable.length === 1, 'only the one that will die takes requests');
  extra.holdBeforeToken(5);
  const answer = client.chat.completions.create(ask);
  await eventually(() => extra.calls[0]?.sent === 5, 'five tokens');
  for (const router of gateway.routers) router.draining = false;
  for (const router of gateway.routers) gateway.leases.get(router)?.touch();
  await eventually(() => gateway.context.pool.usable.length === 3, 'the others take requests again');
  extra.dieAfterToken(6);
  extra.release();
  const { choices } = await answer;
  assert.equal(choices[0]?.message.content, expected.content);
  const resumed = gateway.routers.filter((router) => router !== extra).flatMap((router) => router.calls);
  // A broken connection may swallow the last tokens that were sent.
  const ids = resumed[0]?.request.generatedIds ?? [];
  assert.equal(resumed.length, 1);
  assert.ok(ids.length >= 5);
  assert.deepEqual(ids, script.tokens.slice(0, ids.length));
  await gateway.leases.get(extra)?.leave();
  await eventually(() => gateway.context.pool.usable.length === 2, 'the dead router is gone');
});

test('with all routers gone a stream waits until one is back', async () => {
  const survivors = members();
  for (const router of survivors) router.holdBeforeToken(4);
  const answer = streamed();
  const first = await asked();
  await eventually(() => first.calls[0]?.sent === 4, 'four tokens');
  for (const router of survivors) await gateway.leases.get(router)?.leave();
  await eventually(() => gateway.context.pool.usable.length === 0, 'no router');
  for (const router of survivors) router.kill();
  const late = await gateway.addRouter(options);
  assertSame(await answer);
  assert.deepEqual(late.calls[0]?.request.generatedIds, script.tokens.slice(0, 4));
  await gateway.addRouter(options);
});

test('a stream is not resumed in another numerics class', async () => {
  const held = members();
  for (const router of held) router.holdBeforeToken(2);
  const answer = gateway.fetch('/v1/chat/completions', { ...ask, stream: true }).then((response) => response.text());
  const first = await asked();
  await eventually(() => first.calls[0]?.sent === 2, 'two tokens');
  const other = await gateway.addRouter({ ...options, numericsId: 'bf16-dot-v1/bf16/act-bf16/row-bf16/kv-bf16/exact' });
  await eventually(() => gateway.context.pool.usable.length === 3, 'the other class');
  for (const router of held) await gateway.leases.get(router)?.leave();
  for (const router of held) router.kill();
  const late = await gateway.addRouter(options);
  assert.match(await answer, /\[DONE\]/);
  assert.equal(other.calls.length, 0);
  assert.equal(late.calls.length, 1);
});
