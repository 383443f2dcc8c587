import assert from 'node:assert/strict';
import { after, afterEach, before, test } from 'node:test';
import { eventually } from '@guildhall/common/testing';
import type { FakeScript } from '../../../../test/fakes/fake-router.ts';
import { GatewayUnderTest, tokensOf } from '../testing/gateway-under-test.ts';
import { makeKey, refusalOf, withKey } from '../testing/keyed.ts';
import { REASONS } from './reasons.ts';

let gateway: GatewayUnderTest;
let hasty: GatewayUnderTest;
let script: FakeScript;

before(async () => {
  script = { tokens: await tokensOf('alpha beta gamma') };
  const config = { maxInFlight: 1, maxQueued: 3 };
  gateway = await GatewayUnderTest.start({ ...config, queueMs: 60_000 }, { script: () => script });
  hasty = await gateway.another('gateway-2', { ...config, queueMs: 50 });
});
after(async () => {
  await hasty.stop();
  await gateway.stop();
});
afterEach(() => gateway.router.release());

const body = (more: object = {}): object => ({ model: 'tiny', prompt: 'Hi', max_tokens: 2, ...more });

/** Occupies the only place of a gateway until the router goes on. */
async function occupy(of: GatewayUnderTest): Promise<{ done: Promise<Response> }> {
  gateway.router.holdBeforeToken(1);
  const calls = gateway.router.calls.length;
  const done = of.fetch('/v1/completions', body());
  await eventually(() => gateway.router.calls.length > calls && of.context.inFlight.size === 1, 'a request that runs');
  return { done };
}

test('requests wait for their turn: the urgent ones first, then tenant by tenant', async () => {
  const [a, b] = [await makeKey(gateway, { tenant: 'a' }), await makeKey(gateway, { tenant: 'b' })];
  const { done } = await occupy(gateway);
  const order: string[] = [];
  const send = async (name: string, key: string, more: object = {}): Promise<void> => {
    const size = gateway.context.inFlight.queued;
    const answer = gateway.fetch('/v1/completions', body(more), withKey(key)).then(async (response) => {
      assert.equal(response.status, 200);
      await response.text();
      order.push(name);
    });
    waiting.push(answer);
    await eventually(() => gateway.context.inFlight.queued === size + 1, `${name} to wait`);
  };
  const waiting: Promise<void>[] = [];
  await send('a1', a.key);
  await send('a2', a.key);
  await send('b1', b.key);
  gateway.router.release();
  await Promise.all(waiting);
  assert.deepEqual(order, ['a1', 'b1', 'a2']);
  assert.equal((await done).status, 200);
});

test('an urgent request goes before others', async () => {
  const running = await occupy(gateway);
  const answers = [0, 5, -5].map(async (priority, i) => {
    await eventually(() => gateway.context.inFlight.queued === i, 'its turn to come');
    const response = await gateway.fetch('/v1/completions', body({ priority }));
    await response.text();
    return gateway.router.calls.findLastIndex(({ request }) => request.priority === 0 - priority);
  });
  await eventually(() => gateway.context.inFlight.queued === 3, 'three that wait');
  gateway.router.release();
  const [middle = 0, last = 0, first = 0] = await Promise.all(answers);
  assert.ok(first < middle && middle < last, `${first} ${middle} ${last}`);
  await running.done;
});

test('a full queue makes room for a tenant that has less in it, at the cost of one that has more', async () => {
  const [many, few] = [await makeKey(gateway, { tenant: 'many' }), await makeKey(gateway, { tenant: 'few' })];
  const running = await occupy(gateway);
  const crowd = Array.from({ length: 3 }, () => gateway.fetch('/v1/completions', body(), withKey(many.key)));
  await eventually(() => gateway.context.inFlight.queued === 3, 'the crowd');
  const more = await refusalOf(await gateway.fetch('/v1/completions', body(), withKey(many.key)));
  assert.deepEqual(more, { status: 503, code: 'queue_full', reason: 'queue_full' });
  const one = gateway.fetch('/v1/completions', body(), withKey(few.key));
  const out = await Promise.race(crowd);
  assert.equal(out.status, 503);
  assert.ok(Number(out.headers.get('retry-after')) >= 1);
  gateway.router.release();
  assert.equal((await one).status, 200);
  assert.equal((await Promise.all(crowd)).filter(({ status }) => status === 200).length, 2);
  await running.done;
});

test('who has waited for too long is told so, and who goes away waits no more', async () => {
  const running = await occupy(hasty);
  const late = await hasty.fetch('/v1/completions', body());
  assert.deepEqual(await refusalOf(late), { status: 503, code: 'overloaded', reason: 'queue_timeout' });
  gateway.router.release();
  await running.done;
  const other = await occupy(gateway);
  const gone = new AbortController();
  const waiting = gateway.fetch('/v1/completions', body(), { signal: gone.signal }).catch(() => null);
  await eventually(() => gateway.context.inFlight.queued === 1, 'one that waits');
  gone.abort();
  await waiting;
  await eventually(() => gateway.context.inFlight.queued === 0, 'nobody to wait');
  gateway.router.release();
  await other.done;
});

test('at shutdown those who wait are served as those who run are, and new ones are sent elsewhere', async () => {
  const going = await gateway.another('gateway-3', { maxInFlight: 1, queueMs: 60_000, drainMs: 60_000 });
  const running = await occupy(going);
  const waiting = going.fetch('/v1/completions', body());
  await eventually(() => going.context.inFlight.queued === 1, 'one that waits');
  const drained = going.context.drain();
  const late = await going.fetch('/v1/completions', body());
  assert.deepEqual(await refusalOf(late), { status: 503, code: 'not_ready', reason: 'draining' });
  gateway.router.release();
  assert.equal((await running.done).status, 200);
  assert.equal((await waiting).status, 200);
  await drained;
  await going.stop();
});

test('without a router the reason says so', async () => {
  await gateway.leases.get(gateway.router)?.leave();
  await eventually(() => gateway.context.pool.usable.length === 0, 'the router to be gone');
  const { status, reason } = await refusalOf(await gateway.fetch('/v1/completions', body()));
  assert.deepEqual([status, reason], [503, 'no_router']);
  assert.match((await gateway.metrics.render()).body, /guildhall_refusals_total\{reason="no_router"\} 1/);
  assert.ok(Object.hasOwn(REASONS, 'no_router'));
});
