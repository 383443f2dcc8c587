import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { type ClusterRecord, fail } from '@guildhall/common';
import { eventually } from '@guildhall/common/testing';
import type { router } from '@guildhall/proto';
import type { FakeRouter, FakeScript } from '../../../test/fakes/fake-router.ts';
import { GatewayUnderTest, tokensOf } from './testing/gateway-under-test.ts';

const TEXT = 'A long answer of many words that goes on for a while and then STOP';
const SHOWN = 'A long answer of many words that goes on for a while and then ';
const broken = fail('computation_failed', 'computing this request failed: row 3 is not finite');
const usual = { model: 'tiny', max_tokens: 100, stop: 'STOP' };
let gateway: GatewayUnderTest;
let tokens: number[];
let prompts = 0;
/** What routers do with prompts that begin with these ids, and how often before they do as with all others. */
const special = new Map<number, { does: Partial<FakeScript>; times: number }>();

const options = {
  script: ({ promptIds }: router.GenerateRequest): FakeScript => {
    const entry = special.get(promptIds[0] ?? -1);
    const usual = { tokens, finished: { stopString: 'STOP' } };
    if (entry === undefined || entry.times === 0) return usual;
    entry.times -= 1;
    return { ...usual, ...entry.does };
  },
};

before(async () => {
  tokens = await tokensOf(TEXT);
  gateway = await GatewayUnderTest.start({}, options, options);
});
after(() => gateway.stop());

/** Two routers are alive and idle, and nothing is special. */
beforeEach(async () => {
  special.clear();
  for (const router of gateway.routers) {
    router.release();
    router.calls.length = 0;
    if (router.dead) await gateway.leases.get(router)?.leave();
  }
  while (living().length < 2) await gateway.addRouter(options);
  await eventually(() => gateway.context.pool.usable.length === 2, 'two routers');
});

const living = (): FakeRouter[] => gateway.routers.filter((router) => !router.dead);

/** A request with a prompt that nobody else has, and what routers do with it. */
function promptThat(does: Partial<FakeScript> = {}, times = Infinity): typeof usual & { prompt: number[] } {
  prompts += 1;
  special.set(100 + prompts, { does, times });
  return { ...usual, prompt: [100 + prompts, 1, 2, 3] };
}

interface Answer {
  status: number;
  code: string | null;
  message: string;
  text: string | null;
  retryAfter: string | null;
}

async function ask(body: object, at = gateway): Promise<Answer> {
  const response = await at.fetch('/v1/completions', body);
  const json = (await response.json()) as {
    choices?: { text: string }[];
    error?: { code: string; message: string };
  };
  return {
    status: response.status,
    code: json.error?.code ?? null,
    message: json.error?.message ?? '',
    text: json.choices?.[0]?.text ?? null,
    retryAfter: response.headers.get('retry-after'),
  };
}

const calls = (): number => gateway.routers.reduce((sum, router) => sum + router.calls.length, 0);

async function eventsOf(kind: ClusterRecord['kind']): Promise<ClusterRecord[]> {
  return (await gateway.events()).filter((event) => event.kind === kind);
}

test('a computation that fails once is tried in another router, and the client sees nothing of it', async () => {
  for (const at of [0, 4]) {
    for (const router of gateway.routers) router.calls.length = 0;
    const answer = await ask(promptThat({ tokens: tokens.slice(0, at), failure: broken }, 1));
    assert.deepEqual([answer.status, answer.text], [200, SHOWN]);
    assert.deepEqual(
      living().map((router) => router.calls.length),
      [1, 1],
    );
    const generated = living().flatMap((router) => router.calls.map((call) => call.request.generatedIds.length));
    assert.deepEqual(
      generated.toSorted((a, b) => a - b),
      [0, at],
    );
  }
  assert.deepEqual(await eventsOf('quarantined'), []);
});

test('one that fails twice fails alone, and is refused from then on, with the time that is left', async () => {
  const body = promptThat({ tokens: tokens.slice(0, 3), failure: broken });
  const [bad, ...good] = await Promise.all([ask(body), ...Array.from({ length: 8 }, () => ask(promptThat()))]);
  assert.deepEqual([bad.status, bad.code, bad.message], [500, 'computation_failed', broken.message]);
  assert.deepEqual(
    good.map(({ status, text }) => [status, text]),
    good.map(() => [200, SHOWN]),
  );
  const before = calls();
  const again = await ask(body);
  assert.deepEqual([again.status, again.code], [422, 'request_quarantined']);
  const left = Number(again.retryAfter);
  assert.ok(left > 500 && left <= 600, `Retry-After: ${again.retryAfter}`);
  // As a stream it is a plain answer as well.
  assert.equal((await ask({ ...body, stream: true, seed: 7, max_tokens: 5 })).status, 422);
  assert.equal(calls(), before, 'no router is asked');
  assert.equal(
    (await ask({ ...body, temperature: 0.5 })).code,
    'computation_failed',
    'other parameters, another request',
  );
  assert.equal((await ask({ ...body, prompt: [...body.prompt, 4] })).code, 'computation_failed');
  const [event] = await eventsOf('quarantined');
  assert.match(String(event?.details['fingerprint']), /^[0-9a-f]{12}$/);
  assert.match(String(event?.details['request']), /^cmpl-/);
  assert.equal(event?.details['failed'], broken.message);
});

test('with one router the second try goes to the same', async () => {
  const [leaving] = living();
  assert.ok(leaving !== undefined);
  leaving.draining = true;
  gateway.leases.get(leaving)?.touch();
  await eventually(() => gateway.context.pool.usable.length === 1, 'one router');
  const bad = await ask(promptThat({ tokens: [], failure: broken }));
  assert.equal(bad.code, 'computation_failed');
  assert.equal(calls(), 2);
  leaving.draining = false;
  gateway.leases.get(leaving)?.touch();
});

test('choices of a request fail together, and are one event', async () => {
  const count = (await eventsOf('quarantined')).length;
  const bad = await ask({ ...promptThat({ tokens: tokens.slice(0, 2), failure: broken }), n: 4 });
  assert.equal(bad.code, 'computation_failed');
  assert.equal((await eventsOf('quarantined')).length, count + 1);
});

test('every gateway refuses what one has quarantined, whenever it was started', async (t) => {
  const another = async (id: string): Promise<GatewayUnderTest> => {
    const made = await gateway.another(id);
    t.after(() => made.stop());
    return made;
  };
  const sizeOf = (of: GatewayUnderTest): number => of.context.guard.quarantine.size;
  const other = await another('gateway-2');
  const first = promptThat({ tokens: [], failure: broken });
  assert.equal((await ask(first)).code, 'computation_failed');
  await eventually(() => sizeOf(other) === sizeOf(gateway), 'the other gateway knows');
  const second = promptThat({ tokens: [], failure: broken });
  assert.equal((await ask(second, other)).code, 'computation_failed');
  await eventually(() => sizeOf(other) === sizeOf(gateway), 'the first gateway knows');
  const late = await another('gateway-3');
  await eventually(() => sizeOf(late) === sizeOf(gateway), 'the late gateway knows');
  const before = calls();
  for (const at of [gateway, other, late]) {
    assert.equal((await ask(first, at)).status, 422, at.id);
    assert.equal((await ask(second, at)).status, 422, at.id);
  }
  assert.equal(calls(), before);
});

test('while Redis is away a gateway refuses by itself, and tells the others afterwards', async (t) => {
  const other = await gateway.another('gateway-2');
  t.after(() => other.stop());
  await gateway.redis.kill();
  const body = promptThat({ tokens: [], failure: broken });
  assert.equal((await ask(body)).code, 'computation_failed');
  assert.equal((await ask(body)).status, 422);
  await gateway.redis.restart();
  const { size } = gateway.context.guard.quarantine;
  await eventually(() => other.context.guard.quarantine.size >= size, 'the other gateway knows');
  const before = calls();
  assert.equal((await ask(body, other)).status, 422);
  assert.equal(calls(), before);
});
