import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { fail } from '@guildhall/common';
import { eventually } from '@guildhall/common/testing';
import type { FakeRouter, FakeScript } from '../../../test/fakes/fake-router.ts';
import { GatewayUnderTest, tokensOf } from './testing/gateway-under-test.ts';

const PROMPT = Array.from({ length: 400 }, (_, i) => 100 + i);
let gateway: GatewayUnderTest;
let script: FakeScript;
const options = { pageTokens: 64, stateBytes: 100n, script: (): FakeScript => script };

before(async () => {
  script = { tokens: await tokensOf('a few words') };
  // A breaker that opens by chance on a slow machine would change what these tests see.
  gateway = await GatewayUnderTest.start({ routingTimeoutMs: 1000 }, options, options, options);
});
after(() => gateway.stop());

beforeEach(async () => {
  gateway.directory.clear();
  for (const router of gateway.routers) {
    router.calls.length = 0;
    await report(router, { running: 0, draining: false, decodeStepMs: 10, prefillMsPerToken: 1 });
  }
});

/** Sets what a router reports and waits until the gateway knows. */
async function report(router: FakeRouter, values: Partial<FakeRouter>): Promise<void> {
  Object.assign(router, values);
  gateway.leases.get(router)?.touch();
  await eventually(() => {
    const member = gateway.context.pool.all.find((handle) => handle.id === router.id)?.member;
    return (
      member?.running === router.running &&
      member.draining === router.draining &&
      member.decodeStepMs === Math.fround(router.decodeStepMs) &&
      member.prefillMsPerToken === router.prefillMsPerToken
    );
  }, `${router.id} is known as it is`);
}

/** The directory says that a router has this many pages of the prompt. */
function holds(router: FakeRouter, pages: number, salt = ''): void {
  const { modelFingerprint: fingerprint, numericsId } = router.member();
  gateway.directory.add(router.id, { fingerprint, numericsId, pageTokens: 64, salt, adapter: '' }, PROMPT, pages);
}

interface Shown {
  router: string;
  reason: string;
  prompt_tokens: number;
  lookup_ms: number | null;
  holder: { router: string; tokens: number } | null;
  routers: { id: string; cached_tokens: number; pull_tokens: number; ttft_ms: number; cost_ms: number; load: number }[];
  decisions: string[];
  left_out: number;
}

function shownIn(response: Response): Shown {
  const header = response.headers.get('x-guildhall-routing');
  assert.ok(header !== null);
  return JSON.parse(header) as Shown;
}

const ask = (extra: object = {}): object => ({ model: 'tiny', prompt: PROMPT, max_tokens: 50, ...extra });
const debug = { headers: { 'x-guildhall-debug': 'routing' } };

async function shown(extra: object = {}): Promise<Shown> {
  const response = await gateway.fetch('/v1/completions', ask(extra), debug);
  const text = await response.text();
  assert.equal(response.status, 200, text);
  return shownIn(response);
}

const [first, second, third] = [0, 1, 2].map((i) => (): FakeRouter => gateway.routers[i] as FakeRouter) as [
  () => FakeRouter,
  () => FakeRouter,
  () => FakeRouter,
];
const requestTo = (router: FakeRouter) => router.calls[0]?.request;

test('the router that holds the prompt is chosen, and the header says why, plain and streamed', async () => {
  holds(second(), 5);
  holds(third(), 2);
  for (const stream of [false, true]) {
    const { router, reason, routers, prompt_tokens, lookup_ms, holder, decisions } = await shown({ stream });
    assert.deepEqual([router, reason, prompt_tokens, holder], ['router-2', 'kv', 400, null]);
    assert.deepEqual(
      routers.map((one) => [one.id, one.cached_tokens, one.pull_tokens]),
      [
        ['router-2', 320, 0],
        ['router-3', 128, 192],
        ['router-1', 0, 320],
      ],
    );
    assert.deepEqual(
      routers.map((one) => one.cost_ms),
      routers.map((one) => one.cost_ms).toSorted((a, b) => a - b),
    );
    assert.ok(lookup_ms !== null && lookup_ms >= 0);
    assert.deepEqual(decisions, ['router-2']);
  }
  assert.equal(second().calls.length, 2);
  const { body } = await gateway.metrics.render();
  assert.match(body, /guildhall_routing_decisions_total\{reason="kv"\} 2\n/);
  assert.match(body, /guildhall_routing_cached_tokens_total\{source="own"\} 640\n/);
  assert.match(body, /guildhall_routing_lookups_total\{outcome="hit"\} 2\n/);
  assert.match(body, /guildhall_routing_lookup_seconds_count 2\n/);
  assert.match(body, /guildhall_routing_predicted_ttft_seconds_count 2\n/);
});

test('the header is there for chat, and only for those who ask', async () => {
  const chat = { model: 'tiny', messages: [{ role: 'user', content: 'Hi' }] };
  for (const stream of [false, true]) {
    const answer = await gateway.fetch('/v1/chat/completions', { ...chat, stream }, debug);
    await answer.text();
    assert.equal(shownIn(answer).reason, 'load');
    for (const headers of [{}, { 'x-guildhall-debug': 'other' }]) {
      const plain = await gateway.fetch('/v1/chat/completions', { ...chat, stream }, { headers });
      await plain.text();
      assert.equal(plain.headers.get('x-guildhall-routing'), null);
    }
  }
});

test('a request that no router takes shows where it went', async () => {
  for (const router of gateway.routers) router.failNext(fail('queue_full', 'full'));
  const response = await gateway.fetch('/v1/completions', ask(), debug);
  assert.equal(response.status, 503);
  assert.deepEqual(shownIn(response).decisions.toSorted(), ['router-1', 'router-2', 'router-3']);
  await response.text();
});

test('load outweighs a prefix, and then the router is told who holds more', async () => {
  holds(first(), 2);
  holds(second(), 6);
  await report(second(), { running: 100 });
  await report(third(), { running: 100 });
  const { router, reason, holder, routers } = await shown();
  assert.deepEqual([router, reason, holder], ['router-1', 'kv', { router: 'router-2', tokens: 384 }]);
  assert.deepEqual(routers[0], { ...routers[0], id: 'router-1', cached_tokens: 128, pull_tokens: 256, load: 0 });
  assert.deepEqual(requestTo(first())?.holder, { routerId: 'router-2', address: second().address, tokens: 384 });
});

test('a router that has as much as any other gets no holder, nor one that has less by no whole page', async () => {
  holds(first(), 6);
  holds(second(), 6);
  await report(second(), { running: 100 });
  assert.equal((await shown()).holder, null);
  assert.equal(requestTo(first())?.holder, undefined);
});

test('a router that drains takes nothing new, but what it holds can be had', async () => {
  holds(second(), 6);
  await report(second(), { draining: true });
  const { router, reason, holder } = await shown();
  assert.ok(router !== 'router-2');
  assert.deepEqual([reason, holder], ['kv', { router: 'router-2', tokens: 384 }]);
});

test('all choices of a request share one lookup and go to one router', async () => {
  holds(second(), 6);
  const { decisions } = await shown({ n: 4 });
  assert.deepEqual(decisions, ['router-2', 'router-2', 'router-2', 'router-2']);
  assert.equal(gateway.directory.lookups.length, 1);
  assert.equal(gateway.directory.lookups[0]?.length, 6);
});

test('choices of a prompt that nobody holds go where the first one is computed', async () => {
  for (const router of gateway.routers) await report(router, { decodeStepMs: 0.1 });
  const { decisions } = await shown({ n: 3 });
  assert.equal(new Set(decisions).size, 1);
  assert.ok(gateway.context.pool.all.every((handle) => handle.load === 0));
});

test('prompts are told apart by their salt', async () => {
  holds(second(), 6, 'mine');
  assert.deepEqual(
    (await shown()).routers.map((one) => one.cached_tokens),
    [0, 0, 0],
  );
  const salted = await shown({ cache_salt: 'mine' });
  assert.deepEqual([salted.router, salted.reason], ['router-2', 'kv']);
  assert.equal(second().calls.at(-1)?.request.cacheSalt, 'mine');
});

test('a prompt shorter than a page, or whose log-probabilities are wanted, is not looked up', async () => {
  holds(second(), 6);
  assert.equal((await shown({ prompt: PROMPT.slice(0, 64) })).reason, 'load');
  assert.equal((await shown({ echo: true, logprobs: 1 })).reason, 'load');
  assert.equal(gateway.directory.lookups.length, 0);
  assert.equal((await shown({ prompt: PROMPT.slice(0, 65) })).routers[0]?.cached_tokens, 0);
  assert.equal(gateway.directory.lookups[0]?.length, 1);
});

test('with the directory away requests are routed by load, and by prefix again when it is back', async () => {
  holds(second(), 6);
  gateway.directory.failure = fail('redis_unavailable', 'gone');
  const { reason, routers } = await shown();
  assert.equal(reason, 'away');
  assert.deepEqual(
    routers.map((one) => one.cached_tokens),
    [0, 0, 0],
  );
  gateway.directory.failure = null;
  await eventually(async () => (await shown()).reason === 'kv', 'the breaker has closed');
});

test('a stream whose router was lost goes to the next holder, or to a router that hears of it', async () => {
  holds(first(), 6);
  holds(second(), 4);
  await report(second(), { running: 400 });
  first().endAfterToken(1);
  const { decisions } = await shown();
  assert.deepEqual(decisions, ['router-1', 'router-3']);
  const resumed = requestTo(third());
  assert.equal(resumed?.generatedIds.length, 2);
  // The lost router holds more, but nothing can be had from it.
  assert.deepEqual(resumed?.holder, { routerId: 'router-2', address: second().address, tokens: 256 });
  await eventually(() => gateway.context.pool.all.every((handle) => !handle.suspect), 'it is trusted again');
});

test('routers of another numerics class are asked for under their own names and hold nothing for others', async () => {
  const other = await gateway.addRouter({ ...options, numericsId: 'other' });
  await eventually(() => gateway.context.pool.usable.length === 4, 'four routers');
  await report(other, { running: 400, decodeStepMs: 10 });
  holds(other, 6);
  const { router, routers } = await shown();
  assert.ok(router !== other.id);
  for (const one of routers) {
    const own = one.id === other.id ? 384 : 0;
    assert.deepEqual([one.cached_tokens, one.pull_tokens], [own, 0]);
  }
  assert.equal(gateway.directory.lookups.length, 2);
  await gateway.leases.get(other)?.leave();
  await eventually(() => gateway.context.pool.usable.length === 3, 'three routers');
});
