import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { eventually } from '@guildhall/common/testing';
import type { FakeScript } from '../../../../test/fakes/fake-router.ts';
import { GatewayUnderTest, tokensOf } from '../testing/gateway-under-test.ts';
import { makeKey, refusalOf, withKey } from '../testing/keyed.ts';
import { duration } from './quota-guard.ts';

let one: GatewayUnderTest;
let two: GatewayUnderTest;
let script: FakeScript;
let length = 0;
const prompt = 'One two three four five six';

before(async () => {
  length = (await tokensOf(prompt)).length;
  script = { tokens: await tokensOf('alpha beta gamma delta epsilon') };
  const config = { requireKey: true, quotaOutputTokens: 10, tenantRequestsPerMinute: 20 };
  one = await GatewayUnderTest.start(config, { script: () => script });
  two = await one.another('gateway-2', config);
});
after(async () => {
  await two.stop();
  await one.stop();
});
afterEach(() => one.router.release());

const body = (more: object = {}): object => ({ model: 'tiny', prompt, max_tokens: 3, ...more });
const post = (gateway: GatewayUnderTest, key: string, more: object = {}): Promise<Response> =>
  gateway.fetch('/v1/completions', body(more), withKey(key));

test('two gateways let in together what a key may, and say what is left', async () => {
  const { key } = await makeKey(one, { requestsPerMinute: 3 });
  const answers = await Promise.all(Array.from({ length: 20 }, (_, i) => post(i % 2 === 0 ? one : two, key)));
  const served = answers.filter(({ status }) => status === 200);
  // One more for each 20 s that it takes.
  assert.ok(served.length >= 3 && served.length <= 4, String(served.length));
  const left = new Set(served.map(({ headers }) => headers.get('x-ratelimit-remaining-requests')));
  assert.deepEqual(left, new Set(['0', '1', '2']));
  const refused = answers.find(({ status }) => status === 429);
  assert.equal(refused?.headers.get('x-ratelimit-limit-requests'), '3');
  assert.equal(refused?.headers.get('x-ratelimit-remaining-requests'), '0');
  assert.match(refused?.headers.get('x-ratelimit-reset-requests') ?? '', /^(5\d(\.\d)?s|60s|1m0s)$/);
  const retryAfter = Number(refused?.headers.get('retry-after'));
  assert.ok(retryAfter >= 1 && retryAfter <= 20, String(retryAfter));
  const { code, reason } = await refusalOf(refused as Response);
  assert.deepEqual([code, reason], ['rate_limited', 'requests_per_minute']);
});

test('tokens are taken in advance and settled by what they came to', async () => {
  const { key } = await makeKey(one, { tokensPerMinute: 1000 });
  one.router.holdBeforeToken(2);
  const running = post(one, key, { max_tokens: 500 });
  await eventually(() => (one.router.calls.at(-1)?.sent ?? 0) === 2, 'two tokens');
  one.router.release();
  const first = await running;
  // Of 500 tokens no more than 10 are taken in advance.
  assert.equal(first.headers.get('x-ratelimit-remaining-tokens'), String(1000 - length - 10));
  const { usage } = (await first.json()) as { usage: { total_tokens: number } };
  assert.equal(usage.total_tokens, length + script.tokens.length);
  const left = await eventually(async () => {
    const answer = await post(two, key, { max_tokens: 1 });
    await answer.text();
    const value = Number(answer.headers.get('x-ratelimit-remaining-tokens'));
    return value >= 1000 - 4 * usage.total_tokens && value;
  }, 'the settlement');
  // The first one has cost what it came to; this one is taken in advance, and some time may have passed.
  assert.ok(left >= 1000 - usage.total_tokens - length - 1, String(left));
  assert.ok(left < 1000 - length);
});

test('a request that is larger than the quota of a minute is told so, one that is too early when to come', async () => {
  const tight = await makeKey(one, { tokensPerMinute: length + 2 });
  assert.equal((await post(one, tight.key)).status, 200);
  const early = await post(one, tight.key);
  assert.ok(Number(early.headers.get('retry-after')) > 1);
  assert.equal((await refusalOf(early)).reason, 'tokens_per_minute');
  const small = await makeKey(one, { tokensPerMinute: length - 1 });
  const never = await post(one, small.key);
  assert.equal(never.headers.get('retry-after'), null);
  assert.deepEqual(await refusalOf(never), { status: 429, code: 'rate_limited', reason: 'too_large' });
});

test('a refused request leaves its place, and a stream keeps it to its end', async () => {
  const { key } = await makeKey(one, { concurrency: 1 });
  one.router.holdBeforeToken(1);
  const running = post(one, key, { stream: true });
  await eventually(() => (one.router.calls.at(-1)?.sent ?? 0) === 1, 'a token');
  for (const gateway of [one, two]) {
    const { status, reason } = await refusalOf(await post(gateway, key));
    assert.deepEqual([status, reason], [429, 'concurrency']);
  }
  one.router.release();
  await (await running).text();
  await eventually(async () => (await post(two, key)).status === 200, 'the place');
});

test('a client that goes away gives its place back', async () => {
  const { key } = await makeKey(one, { concurrency: 1 });
  one.router.holdBeforeToken(1);
  const gone = new AbortController();
  const running = one.fetch('/v1/completions', body({ stream: true }), { ...withKey(key), signal: gone.signal });
  await eventually(() => (one.router.calls.at(-1)?.sent ?? 0) === 1, 'a token');
  gone.abort();
  await running.then((answer) => answer.text()).catch(() => undefined);
  one.router.release();
  await eventually(async () => (await post(two, key)).status === 200, 'the place');
});

test('the keys of a tenant share its quota, another tenant has its own', async () => {
  const keys = await Promise.all(Array.from({ length: 4 }, () => makeKey(one, { tenant: 'team' })));
  const other = await makeKey(one, { tenant: 'others' });
  const answers = await Promise.all(
    Array.from({ length: 40 }, (_, i) => post(i % 2 === 0 ? one : two, keys[i % 4]?.key ?? '', { max_tokens: 1 })),
  );
  const served = answers.filter(({ status }) => status === 200).length;
  // 20 at once, and one more for each 3 s that it took.
  assert.ok(served >= 20 && served < 40, String(served));
  const refused = answers.find(({ status }) => status === 429) as Response;
  assert.match(await refused.text(), /the quota of this tenant is 20 requests per minute/);
  const free = await post(one, other.key);
  assert.equal(free.headers.get('x-ratelimit-remaining-requests'), '19');
});

test('a request that finds no router costs nothing', async () => {
  const { key } = await makeKey(one, { requestsPerMinute: 5, tokensPerMinute: 5000 });
  const unknown = await one.fetch('/v1/completions', body({ model: 'none' }), withKey(key));
  assert.equal(unknown.status, 404);
  const after_ = await eventually(async () => {
    const answer = await post(one, key);
    return answer.status === 200 && answer;
  }, 'an answer');
  assert.ok(Number(after_.headers.get('x-ratelimit-remaining-requests')) >= 3);
});

test('while Redis is away requests go on or not, as the option says', async () => {
  const strict = await one.another('gateway-3', { requireKey: true, quotaFailure: 'closed' });
  const { key } = await makeKey(one, { requestsPerMinute: 2 });
  for (const gateway of [one, strict]) assert.equal((await post(gateway, key)).status, 200);
  assert.equal((await post(one, key)).status, 429);
  await one.redis.kill();
  const open = await eventually(async () => {
    const answer = await post(one, key);
    return answer.status === 200 && answer;
  }, 'a gateway that lets it in');
  assert.equal(open.headers.get('x-ratelimit-limit-requests'), null);
  const closed = await refusalOf(await post(strict, key));
  assert.deepEqual([closed.status, closed.reason], [503, 'unchecked']);
  assert.match((await one.metrics.render()).body, /guildhall_quota_checks_total\{outcome="unchecked_open"\} [1-9]/);
  await one.redis.restart();
  await strict.stop();
});

test('durations are written as OpenAI does', () => {
  assert.deepEqual([0, 1.2, 999, 1500, 59_950, 60_000, 123_400].map(duration), [
    '0ms',
    '2ms',
    '999ms',
    '1.5s',
    '60s',
    '1m0s',
    '2m4s',
  ]);
});
