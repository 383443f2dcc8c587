import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { fail } from '@guildhall/common';
import { eventually } from '@guildhall/common/testing';
import type OpenAI from 'openai';
import type { FakeRouter, FakeScript, RecordedCall } from '../../../test/fakes/fake-router.ts';
import { GatewayUnderTest, tokensOf } from './testing/gateway-under-test.ts';

const TEXT = 'One, two 😀 three, four, five, six, STOP';
const SHOWN = 'One, two 😀 three, four, five, six, ';
let gateway: GatewayUnderTest;
let client: OpenAI;
let script: FakeScript;
// Another router than the first one finds other things cached.
const options = {
  script: ({ generatedIds }: { generatedIds: number[] }): FakeScript =>
    generatedIds.length === 0 ? script : { ...script, cachedTokens: 500 },
};

before(async () => {
  script = { tokens: await tokensOf(TEXT), finished: { stopString: 'STOP' }, cachedTokens: 3 };
  // A move that counted as a failure would end the request at once.
  gateway = await GatewayUnderTest.start({ maxFruitlessResumes: 1 }, options, options, options);
  client = gateway.client();
});
after(() => gateway.stop());

beforeEach(async () => {
  for (const router of gateway.routers) router.moveBeforeToken(null);
  await settle();
});

/** Forgets earlier calls; every router reports anew, so that none is passed over. The first one is the least loaded. */
async function settle(): Promise<void> {
  for (const [i, router] of gateway.routers.entries()) {
    router.calls.length = 0;
    router.draining = false;
    router.running = 50 * i;
    router.pendingPrefillTokens = (router.pendingPrefillTokens + 1) % 2;
    gateway.leases.get(router)?.touch();
  }
  await eventually(() => {
    const { usable } = gateway.context.pool;
    const told = gateway.routers.map((router) => usable.find((handle) => handle.id === router.id)?.member);
    return told.every((member, i) => Number(member?.pendingPrefillTokens) === gateway.routers[i]?.pendingPrefillTokens);
  }, 'every router takes requests');
}

interface Whole {
  texts: string[];
  finish: (string | null)[];
  usage: OpenAI.CompletionUsage | undefined;
}

async function streamed(n = 1): Promise<Whole> {
  const whole: Whole = { texts: Array<string>(n).fill(''), finish: Array<null>(n).fill(null), usage: undefined };
  const body = { model: 'tiny', prompt: 'Count!', max_tokens: 100, stop: 'STOP', seed: 5, n } as const;
  for await (const chunk of await client.completions.create({
    ...body,
    stream: true,
    stream_options: { include_usage: true },
  })) {
    whole.usage = chunk.usage ?? whole.usage;
    for (const choice of chunk.choices) {
      whole.texts[choice.index] += choice.text;
      whole.finish[choice.index] = choice.finish_reason ?? whole.finish[choice.index] ?? null;
    }
  }
  return whole;
}

function assertUnbroken(whole: Whole, n = 1): void {
  assert.deepEqual(whole.texts, Array<string>(n).fill(SHOWN));
  assert.deepEqual(whole.finish, Array<string>(n).fill('stop'));
  assert.equal(whole.usage?.completion_tokens, n * script.tokens.length);
  assert.deepEqual(whole.usage?.prompt_tokens_details, { cached_tokens: 3 });
}

/** All calls, in the order in which a stream went through them. */
function calls(): RecordedCall[] {
  const all = gateway.routers.flatMap((router) => router.calls);
  return all.toSorted((a, b) => a.request.generatedIds.length - b.request.generatedIds.length);
}

const moves = async (outcome: string): Promise<number> =>
  Number(
    new RegExp(`guildhall_stream_resumes_total\\{outcome="${outcome}"\\} (\\d+)`).exec(
      (await gateway.metrics.render()).body,
    )?.[1] ?? 0,
  );

test('a stream that is moved goes on in another router, with its tokens and where it was parked', async () => {
  const [a, b, c] = gateway.routers as [FakeRouter, FakeRouter, FakeRouter];
  for (const position of [1, 4, script.tokens.length - 1]) {
    await settle();
    const before = await moves('moved');
    a.moveBeforeToken(position);
    assertUnbroken(await streamed());
    const [[from], [to]] = [a.calls, b.calls];
    assert.deepEqual([a.calls.length, b.calls.length, c.calls.length], [1, 1, 0]);
    assert.equal(from?.moved, true);
    assert.deepEqual(to?.request.generatedIds, script.tokens.slice(0, position));
    assert.deepEqual(to?.request.moved, {
      routerId: a.id,
      address: a.address,
      handle: `${a.id}/${from?.request.requestId}`,
      numComputed: (from?.request.promptIds.length ?? 0) + position,
    });
    assert.equal(to?.request.numericsId, a.member().numericsId);
    assert.deepEqual(to?.request.sampling, from?.request.sampling);
    assert.equal(await moves('moved'), before + 1);
  }
  assert.equal(await moves('resumed'), 0);
  assert.ok(gateway.context.pool.all.every((handle) => !handle.suspect));
});

test('a stream goes on before its old call has ended, and does not cancel it', async () => {
  const [a] = gateway.routers as [FakeRouter];
  a.keepMovedOpen = true;
  a.moveBeforeToken(3);
  assertUnbroken(await streamed());
  // What follows a cancel on the same connection arrives after it.
  await gateway.context.pool.all.find((handle) => handle.id === a.id)?.refreshInfo();
  assert.deepEqual([a.calls[0]?.moved, a.calls[0]?.cancelled], [true, false]);
  a.keepMovedOpen = false;
  a.endMoved();
});

test('a sequence may be moved before its first token, and before it has begun', async () => {
  const [a, b] = gateway.routers as [FakeRouter, FakeRouter];
  for (const position of [0, -1]) {
    await settle();
    a.moveBeforeToken(position);
    assertUnbroken(await streamed());
    const to = b.calls[0]?.request;
    assert.deepEqual([to?.generatedIds, to?.moved?.routerId], [[], a.id]);
    assert.equal(to?.numericsId, a.member().numericsId);
  }
});

test('a stream may be moved twice in a row, without a token in between or with some', async () => {
  const [a, b, c] = gateway.routers as [FakeRouter, FakeRouter, FakeRouter];
  for (const [first, second] of [
    [-1, -1],
    [0, 0],
    [2, -1],
    [2, 2],
    [2, 6],
  ] as const) {
    await settle();
    a.moveBeforeToken(first);
    b.moveBeforeToken(second);
    assertUnbroken(await streamed());
    assert.deepEqual([a.calls.length, b.calls.length, c.calls.length], [1, 1, 1]);
    assert.equal(b.calls[0]?.request.moved?.routerId, a.id);
    assert.equal(c.calls[0]?.request.moved?.routerId, b.id);
    assert.deepEqual(c.calls[0]?.request.generatedIds, script.tokens.slice(0, Math.max(0, first, second)));
  }
});

test('a router that is lost after it took a moved stream over is replaced without the old handle', async () => {
  const [a, b, c] = gateway.routers as [FakeRouter, FakeRouter, FakeRouter];
  a.moveBeforeToken(2);
  b.endAfterToken(4);
  assertUnbroken(await streamed());
  assert.equal(b.calls[0]?.request.moved?.routerId, a.id);
  assert.equal(c.calls[0]?.request.moved, undefined);
  assert.deepEqual(c.calls[0]?.request.generatedIds, script.tokens.slice(0, 5));
  await eventually(() => gateway.context.pool.all.every((handle) => !handle.suspect), 'it is trusted again');
});

test('a router that refuses a moved stream leaves it to the next one', async () => {
  const [a, b, c] = gateway.routers as [FakeRouter, FakeRouter, FakeRouter];
  a.moveBeforeToken(3);
  b.failNext(fail('queue_full', 'full'));
  assertUnbroken(await streamed());
  assert.equal(c.calls[0]?.request.moved?.routerId, a.id);
});

test('choices of one request are moved on their own', async () => {
  const [a, b] = gateway.routers as [FakeRouter, FakeRouter];
  for (const router of gateway.routers) router.holdBeforeToken(2);
  const answer = streamed(3);
  await eventually(() => calls().length === 3 && calls().every((call) => call.sent === 2), 'three choices');
  assert.equal(a.calls.length, 3);
  a.moveBeforeToken(2);
  for (const router of gateway.routers) router.release();
  assertUnbroken(await answer, 3);
  const moved = a.calls.filter((call) => call.moved);
  assert.deepEqual([moved.length, b.calls.length], [1, 1]);
  assert.equal(b.calls[0]?.request.requestId, moved[0]?.request.requestId);
  assert.equal(b.calls[0]?.request.choice, moved[0]?.request.choice);
});

test('a stop string across a move ends the text where it would have', async () => {
  const tail = await tokensOf('STOP');
  assert.ok(tail.length > 1, 'the stop string is several tokens');
  gateway.router.moveBeforeToken(script.tokens.length - 1);
  const { texts, finish } = await streamed();
  assert.deepEqual([texts, finish], [[SHOWN], ['stop']]);
});

test('with its old router dead and nobody else there the stream waits and is computed anew', async () => {
  const before = [await moves('moved'), await moves('resumed')];
  for (const router of gateway.routers) router.holdBeforeToken(3);
  const answer = streamed();
  const source = await eventually(() => gateway.routers.find((router) => router.calls[0]?.sent === 3), 'three tokens');
  const others = gateway.routers.filter((router) => router !== source);
  for (const router of others) {
    router.draining = true;
    gateway.leases.get(router)?.touch();
  }
  await eventually(() => gateway.context.pool.usable.length === 1, 'nobody else');
  source.moveBeforeToken(3);
  source.release();
  await eventually(() => source.calls[0]?.moved, 'moved');
  await gateway.leases.get(source)?.leave();
  source.kill();
  for (const router of others) {
    router.release();
    router.draining = false;
    gateway.leases.get(router)?.touch();
  }
  assertUnbroken(await answer);
  const resumed = others.flatMap((router) => router.calls);
  assert.equal(resumed.length, 1);
  assert.deepEqual(resumed[0]?.request.generatedIds, script.tokens.slice(0, 3));
  assert.equal(resumed[0]?.request.moved?.routerId, source.id);
  assert.deepEqual([await moves('moved'), await moves('resumed')], [(before[0] ?? 0) + 1, before[1]]);
  await source.stop();
  gateway.routers.splice(gateway.routers.indexOf(source), 1);
});

test('a router that drains moves all its streams, and their clients see no break', async () => {
  await gateway.addRouter({ ...options, id: 'router-9' });
  await settle();
  for (const router of gateway.routers) router.holdBeforeToken(5);
  const answers = Array.from({ length: 6 }, () => streamed());
  await eventually(() => calls().length === 6 && calls().every((call) => call.sent === 5), 'six streams');
  const source = gateway.routers.find((router) => router.calls.length > 0) as FakeRouter;
  const streams = source.calls.length;
  const { client: stub, metadata } = gateway.connect(source.address);
  const progress: number[] = [];
  for await (const step of stub.drain({ limitMs: 0 }, metadata)) progress.push((step as { moved: number }).moved);
  stub.close();
  assert.equal(progress.at(-1), streams);
  for (const router of gateway.routers) router.release();
  for (const answer of answers) assertUnbroken(await answer);
  assert.equal(source.calls.length, streams, 'nothing came back');
  assert.ok(gateway.context.pool.all.every((handle) => !handle.suspect));
});
