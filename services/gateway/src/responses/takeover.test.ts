import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { connectRedis, redisKeys, systemClock } from '@guildhall/common';
import { eventually, silentLogger } from '@guildhall/common/testing';
import type { Redis } from 'ioredis';
import type OpenAI from 'openai';
import type { FakeScript } from '../../../../test/fakes/fake-router.ts';
import { GatewayUnderTest, tinyAssets, tokensOf } from '../testing/gateway-under-test.ts';

const ANSWER = 'I think about it for a while.\n</think>\n\nHello there, friend! How are you today?';
let first: GatewayUnderTest;
let second: GatewayUnderTest | null = null;
let script: FakeScript;
let redis: Redis;
const keys = redisKeys('test');

beforeEach(async () => {
  const eos = tinyAssets().generation.eosIds[0] ?? 0;
  script = { tokens: [...(await tokensOf(ANSWER)), eos], finished: { stopTokenId: eos } };
  first = await GatewayUnderTest.start({ drainMs: 0 }, { script: () => script });
  redis = connectRedis(first.redis.url, { clock: systemClock, logger: silentLogger() });
  await eventually(() => redis.status === 'ready', 'Redis');
});
afterEach(async () => {
  redis.disconnect();
  await second?.stop();
  second = null;
  await first.stop();
});

/** A response now; null while Redis does not answer in time, as on a busy machine. */
async function now(client: OpenAI, id: string): Promise<OpenAI.Responses.Response | null> {
  try {
    return await client.responses.retrieve(id);
  } catch (err) {
    if ((err as { code?: string }).code === 'redis_unavailable') return null;
    throw err;
  }
}

/** A background response of which some tokens are in Redis, and the rest is held back. */
async function halfDone(client: OpenAI, at: number): Promise<string> {
  first.router.holdBeforeToken(at);
  const { id } = await client.responses.create({ model: 'tiny', input: 'Hi', background: true });
  await eventually(async () => ((await now(client, id))?.output.length ?? 0) > 0, 'the first tokens');
  return id;
}

const over = (client: OpenAI, id: string): Promise<OpenAI.Responses.Response> =>
  eventually(async () => {
    const response = await now(client, id);
    return response?.status !== 'queued' && response?.status !== 'in_progress' && response;
  }, 'the end of the response');

test('a gateway that goes hands a background response over, which goes on where it stopped', async () => {
  const id = await halfDone(first.client(), 8);
  second = await first.another('gateway-2');
  const client = second.client();
  const stream = await client.responses.retrieve(id, { stream: true });
  const events: OpenAI.Responses.ResponseStreamEvent[] = [];
  const told = (async () => {
    for await (const event of stream) events.push(event);
  })();
  await first.context.drain();
  first.router.release();
  const done = await over(client, id);
  await told;
  assert.equal(done.status, 'completed');
  assert.equal(done.output_text, 'Hello there, friend! How are you today?');
  const resumed = first.router.calls.at(-1)?.request;
  assert.ok((resumed?.generatedIds.length ?? 0) > 0, 'the tokens that were there are not generated again');
  assert.equal(resumed?.requestId, first.router.calls[0]?.request.requestId);
  assert.equal(resumed?.sampling?.seed, first.router.calls[0]?.request.sampling?.seed);
  assert.equal(done.usage?.output_tokens, script.tokens.length);
  const text = events.flatMap((event) => (event.type === 'response.output_text.delta' ? [event.delta] : [])).join('');
  assert.equal(text, done.output_text);
  assert.deepEqual(
    events.map((event) => event.sequence_number),
    [...events.keys()],
  );
  assert.equal(events.at(-1)?.type, 'response.completed');
});

test('log-probabilities of tokens whose text was held back are not lost when another gateway goes on', async () => {
  // The beginning of a call holds text back until it turns out to be none.
  const [told, held] = ['I think.\n</think>\n\nWell, ', '<tool_call> is'];
  const ids = [...(await tokensOf(told)), ...(await tokensOf(held))];
  script = { ...script, tokens: [...ids, ...(await tokensOf(' a tag.')), ...script.tokens.slice(-1)] };
  const asked = {
    model: 'tiny',
    input: 'Hi',
    tools: [{ type: 'function' as const, name: 'f', parameters: { type: 'object' }, strict: false }],
    include: ['message.output_text.logprobs' as const],
    top_logprobs: 2,
  };
  const logprobsOf = ({ output }: OpenAI.Responses.Response) =>
    output
      .flatMap((item) => (item.type === 'message' ? item.content : []))
      .flatMap((part) => (part.type === 'output_text' ? (part.logprobs ?? []) : []));
  const whole = await first.client().responses.create(asked);
  assert.equal(whole.output_text, 'Well, <tool_call> is a tag.');
  assert.equal(
    logprobsOf(whole)
      .map(({ token }) => token)
      .join(''),
    whole.output_text,
  );
  const heldAt = (await tokensOf(told)).length + 1;
  first.router.calls.length = 0;
  first.router.holdBeforeToken(heldAt);
  const { id } = await first.client().responses.create({ ...asked, background: true });
  await eventually(async () => ((await now(first.client(), id))?.output_text ?? '') !== '', 'the first text');
  await eventually(() => first.router.calls[0]?.sent === heldAt, 'the token that is held back');
  second = await first.another('gateway-2');
  await first.context.drain();
  first.router.release();
  const done = await over(second.client(), id);
  const resumed = first.router.calls.at(-1)?.request;
  assert.equal(resumed?.generatedIds.length, heldAt, 'the token is known whose text was held back');
  assert.equal(done.output_text, whole.output_text);
  assert.deepEqual(logprobsOf(done), logprobsOf(whole));
});

test('a response whose lease ran out is taken over; the gateway that lost it writes nothing more', async () => {
  const id = await halfDone(first.client(), 8);
  second = await first.another('gateway-2');
  void first.context.background.stop();
  await eventually(async () => {
    // As after a pause of the whole process, longer than the lease; until its next renewal at least.
    await redis.zadd(keys.responsesRunning, 1, id);
    return (await redis.hget(keys.response(id), 'owner'))?.startsWith('gateway-2/');
  }, 'a new owner');
  first.router.release();
  const done = await over(second.client(), id);
  assert.equal(done.output_text, 'Hello there, friend! How are you today?');
  assert.equal(await redis.hget(keys.response(id), 'deaths'), '1');
  assert.equal(await redis.zscore(keys.responsesRunning, id), null);
});

test('a response of which gateways keep dying fails and says so', async () => {
  const id = await halfDone(first.client(), 8);
  void first.context.background.stop();
  await redis.hset(keys.response(id), 'deaths', 5);
  second = await first.another('gateway-2');
  const client = second.client();
  const done = await eventually(async () => {
    await redis.zadd(keys.responsesRunning, 'XX', 1, id);
    const response = await now(client, id);
    return response?.status !== 'in_progress' && response;
  }, 'the end of the response');
  assert.equal(done.status, 'failed');
  assert.match(done.error?.message ?? '', /gateways died/);
  first.router.release();
});

test('a cancel by way of another gateway ends a response everywhere', async () => {
  const id = await halfDone(first.client(), 8);
  second = await first.another('gateway-2');
  const cancelled = await second.client().responses.cancel(id);
  assert.equal(cancelled.status, 'cancelled');
  await first.router.calls[0]?.whenCancelled;
  assert.equal((await first.client().responses.retrieve(id)).status, 'cancelled');
  assert.deepEqual(await first.client().responses.cancel(id), await second.client().responses.cancel(id));
});
