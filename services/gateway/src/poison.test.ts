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
let gateway: GatewayUnderTest;
let tokens: number[];
let prompts = 0;
/** What routers do with prompts that begin with these ids. */
const special = new Map<number, Partial<FakeScript>>();

const options = {
  script: ({ promptIds }: router.GenerateRequest): FakeScript => ({
    tokens,
    finished: { stopString: 'STOP' },
    ...special.get(promptIds[0] ?? -1),
  }),
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

/** A prompt that no other test has, with what routers do with it. */
function promptThat(does: Partial<FakeScript> = {}): {
  model: string;
  prompt: number[];
  max_tokens: number;
  stop: string;
} {
  prompts += 1;
  special.set(100 + prompts, does);
  return { model: 'tiny', prompt: [100 + prompts, 1, 2, 3], max_tokens: 100, stop: 'STOP' };
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
    let failures = 0;
    const body = promptThat();
    const id = body.prompt[0] as number;
    // Whoever comes first fails there.
    Object.defineProperty(special.get(id), 'failure', {
      enumerable: true,
      get: () => ((failures += 1) === 1 ? broken : undefined),
    });
    Object.defineProperty(special.get(id), 'tokens', {
      enumerable: true,
      get: () => (failures === 0 ? tokens.slice(0, at) : tokens),
    });
    assert.deepEqual(
      { ...(await ask(body)), retryAfter: null },
      { status: 200, code: null, message: '', text: SHOWN, retryAfter: null },
    );
    const used = gateway.routers.filter((router) => router.calls.length > 0);
    assert.deepEqual(
      used.map((router) => router.calls.length),
      [1, 1],
    );
    const resumed = used.flatMap((router) => router.calls).find((call) => call.request.generatedIds.length === at);
    assert.ok(resumed !== undefined);
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

test('every gateway refuses what one has quarantined, whichever start they had', async () => {
  const other = await gateway.another('gateway-2');
  try {
    const first = promptThat({ tokens: [], failure: broken });
    assert.equal((await ask(first)).code, 'computation_failed');
    await eventually(() => other.context.guard.quarantine.size > 0, 'the other gateway knows');
    const second = promptThat({ tokens: [], failure: broken });
    assert.equal((await ask(second, other)).code, 'computation_failed');
    const before = calls();
    assert.equal((await ask(first, other)).status, 422);
    await eventually(async () => (await ask(second)).status === 422 || calls() > before, 'the first gateway knows');
    assert.equal(calls(), before);
    const late = await gateway.another('gateway-3');
    assert.equal((await ask(first, late)).status, 422);
    await late.stop();
  } finally {
    await other.stop();
  }
});
