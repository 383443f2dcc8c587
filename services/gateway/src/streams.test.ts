import assert from 'node:assert/strict';
import { type ClientRequest, type IncomingMessage, request as httpRequest } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, afterEach, before, test } from 'node:test';
import { fail } from '@guildhall/common';
import { eventually } from '@guildhall/common/testing';
import type { FakeScript, RecordedCall } from '../../../test/fakes/fake-router.ts';
import { GatewayUnderTest, tinyAssets, tokensOf } from './testing/gateway-under-test.ts';

let gateway: GatewayUnderTest;
let script: FakeScript;
let short: FakeScript;

before(async () => {
  short = { tokens: await tokensOf('x</think>One two three four five six seven eight nine ten') };
  gateway = await GatewayUnderTest.start(
    { keepAliveMs: 100, maxInFlight: 4, maxQueued: 0, queueMs: 2000 },
    { script: () => script, maxContext: 262_144 },
  );
});
after(() => gateway.stop());
afterEach(async () => {
  gateway.router.release();
  script = short;
  await eventually(() => gateway.context.inFlight.size === 0, 'no request in flight');
});

const body = (extra: object): string =>
  JSON.stringify({ model: 'tiny', messages: [{ role: 'user', content: 'Hi' }], ...extra });

interface Open {
  request: ClientRequest;
  response: IncomingMessage;
}

/** Posts without reading the answer. */
async function open(extra: object): Promise<Open> {
  const request = httpRequest(`${gateway.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
  });
  request.on('error', () => undefined);
  const response = new Promise<IncomingMessage>((resolve) => request.once('response', resolve));
  request.end(body(extra));
  return { request, response: await response };
}

const lastCall = (): RecordedCall | undefined => gateway.router.calls.at(-1);

test('a client that leaves in the middle of a stream cancels the call at once', async () => {
  script = short;
  gateway.router.holdBeforeToken(5);
  const { request, response } = await open({ stream: true });
  response.on('error', () => undefined).resume();
  await eventually(() => lastCall()?.sent === 5, 'five tokens');
  request.destroy();
  await eventually(() => lastCall()?.cancelled, 'the cancel');
});

test('a client that leaves while it waits for a whole answer cancels all its choices', async () => {
  script = short;
  gateway.router.holdBeforeToken(2);
  const before = gateway.router.calls.length;
  const abort = new AbortController();
  const answer = fetch(`${gateway.url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: body({ n: 3 }),
    signal: abort.signal,
  });
  await eventually(
    () => gateway.router.calls.slice(before).filter((call) => call.sent === 2).length === 3,
    'three choices',
  );
  abort.abort();
  await assert.rejects(answer);
  await eventually(() => gateway.router.calls.slice(before).every((call) => call.cancelled), 'three cancels');
});

test('a client that does not read stops its router, and gets everything once it reads', async () => {
  // Wide events, so that what the kernel buffers is filled soon.
  const tokens = Array.from({ length: 5000 }, (_, i) => short.tokens[i % short.tokens.length] ?? 0);
  script = { tokens };
  const { response } = await open({
    stream: true,
    ignore_eos: true,
    logprobs: true,
    top_logprobs: 20,
    chat_template_kwargs: { enable_thinking: false },
  });
  response.pause();
  // Stalled: the count of sent tokens has stopped below the end, since nobody takes them.
  let seen = -1;
  let same = 0;
  await eventually(async () => {
    const sent = lastCall()?.sent ?? 0;
    same = sent === seen ? same + 1 : 0;
    seen = sent;
    await sleep(50);
    return same >= 10 && sent > 0;
  }, 'the router to stall');
  assert.ok(seen < tokens.length, `${seen} of ${tokens.length} were sent to a client that reads nothing`);
  // Everyone else is served meanwhile.
  script = short;
  const other = await gateway
    .client()
    .chat.completions.create({ model: 'tiny', messages: [{ role: 'user', content: 'Hi' }] });
  assert.match(other.choices[0]?.message.content ?? '', /^One two/);
  let text = '';
  for await (const chunk of response.setEncoding('utf8')) text += String(chunk);
  const pieces = text.split('\n\n').filter((line) => line.startsWith('data: {'));
  const content = pieces
    .map(
      (line) =>
        (JSON.parse(line.slice(6)) as { choices: { delta: { content?: string } }[] }).choices[0]?.delta.content ?? '',
    )
    .join('');
  assert.equal(content, tinyAssets().tokenizer.decode(tokens, { skipSpecial: true }));
  assert.match(text, /data: \[DONE\]\n\n$/);
});

test('a stream that waits long for its first token is kept alive by comments', async () => {
  script = short;
  gateway.router.holdBeforeToken(0);
  const { response } = await open({ stream: true });
  assert.equal(response.statusCode, 200);
  assert.match(response.headers['content-type'] ?? '', /^text\/event-stream/);
  let text = '';
  for await (const chunk of response.setEncoding('utf8')) {
    text += String(chunk);
    if ((text.match(/: keep-alive\n\n/g) ?? []).length >= 2) gateway.router.release();
  }
  assert.match(text, /"content":"One"/);
  assert.match(text, /data: \[DONE\]\n\n$/);
});

test('an error in the middle of a stream is its last event, in the shape of any other error', async () => {
  script = { tokens: short.tokens, failure: fail('expert_unavailable', 'no worker holds expert 3') };
  const text = await (await gateway.fetch('/v1/chat/completions', body({ stream: true }))).text();
  const last = text.trimEnd().split('\n\n').at(-1) ?? '';
  const { error } = JSON.parse(last.replace('data: ', '')) as { error: Record<string, unknown> };
  assert.deepEqual(error, {
    message: 'no worker holds expert 3',
    type: 'server_error',
    param: null,
    code: 'expert_unavailable',
  });
  const stream = await gateway
    .client()
    .chat.completions.create({ model: 'tiny', messages: [{ role: 'user', content: 'Hi' }], stream: true });
  await assert.rejects(async () => {
    for await (const _ of stream);
  }, /no worker holds expert 3/);
});

test('one choice that fails cancels the others', async () => {
  script = short;
  gateway.router.holdBeforeToken(3);
  const before = gateway.router.calls.length;
  gateway.router.failNext(fail('out_of_pages', 'no pages'));
  const response = await gateway.fetch('/v1/chat/completions', body({ n: 3 }));
  assert.equal(response.status, 503);
  await eventually(() => gateway.router.calls.slice(before + 1).every((call) => call.cancelled), 'the cancels');
});

test('more requests than may run and wait are refused with 503', async () => {
  script = short;
  gateway.router.holdBeforeToken(1);
  const before = gateway.router.calls.length;
  const running = Array.from({ length: 4 }, () => gateway.fetch('/v1/chat/completions', body({})));
  await eventually(() => gateway.router.calls.length === before + 4, 'four requests');
  const refused = await gateway.fetch('/v1/chat/completions', body({}));
  assert.equal(refused.status, 503);
  assert.equal(refused.headers.get('retry-after'), '1');
  assert.equal(refused.headers.get('x-guildhall-reason'), 'queue_full');
  assert.equal(((await refused.json()) as { error: { code: string } }).error.code, 'queue_full');
  gateway.router.release();
  for (const answer of await Promise.all(running)) assert.equal(answer.status, 200);
});
