import assert from 'node:assert/strict';
import { afterEach, beforeEach, test } from 'node:test';
import { eventually } from '@guildhall/common/testing';
import type { FakeScript } from '../../../test/fakes/fake-router.ts';
import { GatewayUnderTest, tokensOf } from './testing/gateway-under-test.ts';

let gateway: GatewayUnderTest;
let script: FakeScript;

const ask = { model: 'tiny', messages: [{ role: 'user' as const, content: 'Hi' }] };

beforeEach(async () => {
  script = { tokens: await tokensOf('Good morning'), finished: {} };
});
afterEach(() => gateway.stop());

const held = (count: number): Promise<unknown> =>
  eventually(() => gateway.context.hold.size === count, `${count} requests are held`);

test('requests are held until a first router is there, whole and streamed, and all of them are answered', async () => {
  gateway = await GatewayUnderTest.start({ holdMs: 60_000, keepAliveMs: 100, reasoningParser: 'none' });
  let touched = 0;
  gateway.context.hold.onChange = () => void (touched += 1);
  assert.equal((await gateway.fetch('/ready')).status, 200, 'Kubernetes sends it what is to wake the model');
  const whole = gateway.client().chat.completions.create(ask);
  await held(1);
  assert.equal(touched, 1, 'the first one is told at once');
  const response = await gateway.fetch('/v1/chat/completions', { ...ask, stream: true });
  assert.equal(response.status, 200);
  const reader = (response.body as ReadableStream<Uint8Array>).pipeThrough(new TextDecoderStream()).getReader();
  assert.equal((await reader.read()).value, ': keep-alive\n\n', 'the client’s connection is kept alive meanwhile');
  await held(2);
  await gateway.addRouter({ script: () => script });
  assert.equal((await whole).choices[0]?.message.content, 'Good morning');
  let text = '';
  for (let next = await reader.read(); !next.done; next = await reader.read()) text += next.value;
  assert.match(text, /Good/);
  assert.match(text, /\[DONE\]/);
  await held(0);
  assert.equal(touched, 2);
});

test('more than may be held are refused with a time to come back, and the others stay', async () => {
  gateway = await GatewayUnderTest.start({ holdMs: 60_000, maxHeld: 1, reasoningParser: 'none' });
  const first = gateway.client().chat.completions.create(ask);
  await held(1);
  const refused = await gateway.fetch('/v1/chat/completions', ask);
  assert.equal(refused.status, 503);
  assert.ok(Number(refused.headers.get('retry-after')) > 1);
  assert.match(await refused.text(), /1 requests wait/);
  await gateway.addRouter({ script: () => script });
  assert.equal((await first).choices[0]?.message.content, 'Good morning');
});

test('nobody comes: the request ends when its time is up; a client that leaves is not counted any more', async () => {
  gateway = await GatewayUnderTest.start({ holdMs: 300 });
  const late = await gateway.fetch('/v1/chat/completions', ask);
  assert.equal(late.status, 503);
  assert.match(await late.text(), /no router has come within 300 ms/);
  await held(0);
});

test('a client that leaves is held no longer', async () => {
  gateway = await GatewayUnderTest.start({ holdMs: 60_000 });
  const abort = new AbortController();
  const gone = gateway.fetch('/v1/chat/completions', ask, { signal: abort.signal });
  await held(1);
  abort.abort();
  await assert.rejects(gone);
  await held(0);
});

test('a name that no router serves is refused once a router has told', async () => {
  gateway = await GatewayUnderTest.start({ holdMs: 60_000 });
  const wrong = gateway.fetch('/v1/chat/completions', { ...ask, model: 'other' });
  await held(1);
  await gateway.addRouter({ script: () => script });
  assert.equal((await wrong).status, 404);
});

test('without --hold-ms a request is refused at once', async () => {
  gateway = await GatewayUnderTest.start({});
  assert.equal((await gateway.fetch('/ready')).status, 503);
  assert.equal((await gateway.fetch('/v1/chat/completions', ask)).status, 503);
});
