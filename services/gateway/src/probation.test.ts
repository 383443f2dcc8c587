import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { Cluster, type ClusterRecord, FakeClock, systemClock } from '@guildhall/common';
import { eventually, silentLogger } from '@guildhall/common/testing';
import type { router } from '@guildhall/proto';
import type { FakeRouter, FakeScript } from '../../../test/fakes/fake-router.ts';
import { Probation } from './quarantine/probation.ts';
import { GatewayUnderTest, tokensOf } from './testing/gateway-under-test.ts';

const TEXT = 'A long answer of many words that goes on for a while and then STOP';
const SHOWN = 'A long answer of many words that goes on for a while and then ';
let gateway: GatewayUnderTest;
let tokens: number[];
/** First ids of prompts that kill their routers, with the new token before which they do. */
const deadly = new Map<number, number>();
let nextPrompt = 100;
const replaced: FakeRouter[] = [];

const options = {
  script: ({ promptIds, generatedIds }: router.GenerateRequest): FakeScript => {
    const after = deadly.get(promptIds[0] ?? -1);
    const usual = { tokens, finished: { stopString: 'STOP' } };
    return after === undefined ? usual : { ...usual, deadlyAt: generatedIds.length + after };
  },
};

before(async () => {
  tokens = await tokensOf(TEXT);
  gateway = await GatewayUnderTest.start({}, options, options);
});
after(() => gateway.stop());

const living = (): FakeRouter[] => gateway.routers.filter((router) => !router.dead);

/** Starts a router for each that has died, as a supervisor does; returns how many had. */
async function replaceDead(): Promise<number> {
  const dead = gateway.routers.filter((router) => router.dead && !replaced.includes(router));
  replaced.push(...dead);
  for (const router of dead) {
    await gateway.leases.get(router)?.leave();
    await gateway.addRouter(options);
  }
  return dead.length;
}

beforeEach(async () => {
  deadly.clear();
  await replaceDead();
  for (const router of living().slice(2)) {
    router.kill();
    replaced.push(router);
    await gateway.leases.get(router)?.leave();
  }
  for (const router of living()) router.release();
  for (const router of gateway.routers) router.calls.length = 0;
  await eventually(() => gateway.context.pool.usable.length === 2, 'two routers');
});

interface Answer {
  status: number;
  code: string | null;
  text: string | null;
}

async function ask(prompt: number[], at = gateway): Promise<Answer> {
  const body = { model: 'tiny', prompt, max_tokens: 100, stop: 'STOP' };
  const response = await at.fetch('/v1/completions', body);
  const json = (await response.json()) as { choices?: { text: string }[]; error?: { code: string } };
  return { status: response.status, code: json.error?.code ?? null, text: json.choices?.[0]?.text ?? null };
}

function prompt(killsBefore: number | null = null): number[] {
  nextPrompt += 1;
  if (killsBefore !== null) deadly.set(nextPrompt, killsBefore);
  return [nextPrompt, 1, 2];
}

/** Replaces routers that die until the answers are there; returns these and how many routers died. */
async function withSupervisor<T>(answers: Promise<T>): Promise<{ answers: T; deaths: number }> {
  let done = false;
  let deaths = 0;
  const settled = answers.finally(() => (done = true));
  settled.catch(() => undefined);
  await eventually(async () => {
    deaths += await replaceDead();
    return done;
  }, 'every answer');
  deaths += await replaceDead();
  return { answers: await settled, deaths };
}

async function eventsOf(kind: ClusterRecord['kind'], after: number): Promise<ClusterRecord[]> {
  return (await gateway.events()).filter((event) => event.kind === kind && event.atMs >= after);
}

const good = (count: number): Answer[] =>
  Array.from({ length: count }, () => ({ status: 200, code: null, text: SHOWN }));

/** Starts requests that are held before the token at `position` in every router, and waits until they are. */
async function startHeld(count: number, position: number): Promise<{ answers: Promise<Answer[]> }> {
  for (const router of living()) router.holdBeforeToken(position);
  const answers = Promise.all(Array.from({ length: count }, () => ask(prompt())));
  const there = (): number =>
    living()
      .flatMap((router) => router.calls)
      .filter((call) => call.sent === position).length;
  await eventually(() => there() === count, 'every stream to be under way');
  return { answers };
}

for (const [position, what] of [
  [0, 'without tokens yet'],
  [5, 'in the midst of their answers'],
] as const) {
  test(`a prompt that kills routers takes three down at most; streams ${what} are not harmed`, async () => {
    const since = systemClock.nowMs();
    const innocents = await startHeld(12, position);
    const poison = prompt(0);
    const { answers, deaths } = await withSupervisor(Promise.all([ask(poison), releaseLater(innocents.answers)]));
    assert.equal(answers[0].code, 'computation_failed');
    assert.deepEqual(answers[1], good(12));
    assert.ok(deaths >= 2 && deaths <= 3, `${deaths} routers died`);
    assert.deepEqual(await ask(poison), { status: 422, code: 'request_quarantined', text: null });
    await eventually(async () => (await eventsOf('router_lost', since)).length === deaths, 'one event for each death');
    await eventually(
      async () => (await eventsOf('stream_resumed', since)).length === deaths,
      'and one when they go on',
    );
  });
}

/** Lets held streams go on in routers that have not died, as soon as one has. */
async function releaseLater<T>(answers: Promise<T>): Promise<T> {
  await eventually(() => gateway.routers.some((router) => router.dead && router.calls.length > 0), 'a death');
  for (const router of living()) router.release();
  return answers;
}

test('one that kills after each new token is found as well', async () => {
  const poison = prompt(1);
  const { answers, deaths } = await withSupervisor(ask(poison));
  assert.equal(answers.code, 'computation_failed');
  assert.equal(deaths, 3);
  assert.equal((await ask(poison)).code, 'request_quarantined');
});

test('choices of one prompt share their guilt', async () => {
  const poison = prompt(0);
  const body = { model: 'tiny', prompt: poison, max_tokens: 100, n: 6 };
  const { answers, deaths } = await withSupervisor(gateway.fetch('/v1/completions', body));
  assert.equal(answers.status, 500);
  assert.ok(deaths <= 4, `${deaths} routers died`);
});

test('an innocent that is alone when its router is killed, and in company before, is not blamed', async () => {
  const { answers } = await startHeld(1, 0);
  const [first, second] = living().toSorted((a, b) => b.calls.length - a.calls.length);
  first?.kill();
  await eventually(() => second?.calls.length === 1, 'it is in probation in the other router');
  second?.kill();
  assert.deepEqual(await withSupervisor(answers), { answers: good(1), deaths: 2 });
});

test('a client that does not read keeps nobody out of a router', async () => {
  const { answers } = await startHeld(3, 0);
  const before = living();
  // Where they go on each gets one token and no more for now.
  const next = await gateway.addRouter(options);
  next.holdBeforeToken(1);
  for (const router of before) router.kill();
  await eventually(() => next.calls.filter((call) => call.sent === 1).length === 3, 'all got into the router');
  next.release();
  assert.deepEqual(await answers, good(3));
});

test('gateways share the places, and each has its own while Redis is away', async (t) => {
  const clusters = [1, 2].map(
    () => new Cluster({ redis: gateway.redis.url, cluster: 'places', clock: systemClock, logger: silentLogger() }),
  );
  t.after(() => Promise.all(clusters.map((cluster) => cluster.close())));
  let freed = 0;
  const [one, two] = clusters.map(
    ({ quarantine }) =>
      new Probation({ shared: quarantine, clock: systemClock, logger: silentLogger(), onFree: () => (freed += 1) }),
  );
  assert.ok(one !== undefined && two !== undefined);
  await Promise.all(clusters.map((cluster) => cluster.start()));
  const place = await one.enter('router-1');
  assert.ok(place !== null && place.held());
  assert.equal(await one.enter('router-1'), null);
  assert.equal(await two.enter('router-1'), null);
  assert.ok(two.busy('router-1') && !two.busy('router-2'));
  assert.ok(await two.enter('router-2'));
  place.release();
  place.release();
  assert.equal(freed, 1);
  const got = await eventually(() => two.enter('router-1'), 'the place is free');
  assert.ok(got.held());
  assert.equal(await one.enter('router-1'), null);
  await gateway.redis.kill();
  await eventually(async () => (await one.enter('router-1')) !== null, 'its own place');
  await gateway.redis.restart();
});

test('a place outlives its gateway by its lease only, and lapses where it was said to', async () => {
  const clock = new FakeClock();
  const leases: number[] = [];
  const shared = {
    hold: (_router: string, _holder: string, leaseMs: number) => {
      leases.push(leaseMs);
      return Promise.resolve(true);
    },
    letGo: () => Promise.resolve(),
  };
  const probation = new Probation({ shared, clock, logger: silentLogger(), onFree: () => undefined });
  const place = await probation.enter('router-1');
  await clock.advance(20_000);
  assert.ok(leases.length > 20_000 / (leases[0] ?? 0), 'it is renewed');
  assert.ok(place !== null);
  place.release(1000);
  assert.ok(place.held());
  await clock.advance(1000);
  assert.ok(!place.held() && !probation.busy('router-1'));
});
