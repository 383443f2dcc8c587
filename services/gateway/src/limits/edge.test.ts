import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { after, afterEach, before, test } from 'node:test';
import { eventually } from '@guildhall/common/testing';
import type { FakeScript } from '../../../../test/fakes/fake-router.ts';
import { GatewayUnderTest, tinyAssets } from '../testing/gateway-under-test.ts';

let gateway: GatewayUnderTest;
let script: FakeScript;
const sockets = new Set<Socket>();
const ORIGIN = 'https://app.example.com';

before(async () => {
  const ids = Array.from({ length: 200_000 }, (_, i) => 1000 + (i % 500));
  script = { tokens: ids.filter((id) => !tinyAssets().generation.eosIds.includes(id)) };
  const config = { apiKey: ['secret'], corsOrigins: [ORIGIN], maxConnections: 40, stallMs: 300, requestTimeoutMs: 0 };
  gateway = await GatewayUnderTest.start(
    { ...config, maxContext: 250_000 },
    { script: () => script, maxContext: 262_144 },
  );
});
after(() => gateway.stop());
afterEach(() => {
  for (const socket of sockets) socket.destroy();
  sockets.clear();
});

async function open(): Promise<Socket> {
  const { hostname, port } = new URL(gateway.url);
  const socket = connect(Number(port), hostname);
  sockets.add(socket);
  socket.on('error', () => undefined);
  await once(socket, 'connect');
  return socket;
}

/** Everything that comes back until the connection is closed. */
async function answerOf(socket: Socket): Promise<string> {
  let text = '';
  socket.setEncoding('utf8').on('data', (piece: string) => (text += piece));
  await once(socket, 'close');
  return text;
}

test('pages of a configured origin may call from a browser, others may not', async () => {
  const preflight = (origin: string): Promise<Response> =>
    gateway.fetch('/v1/chat/completions', undefined, {
      method: 'OPTIONS',
      headers: {
        origin,
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'authorization,content-type',
      },
    });
  const allowed = await preflight(ORIGIN);
  assert.equal(allowed.status, 204);
  assert.equal(allowed.headers.get('access-control-allow-origin'), ORIGIN);
  assert.match(allowed.headers.get('access-control-allow-headers') ?? '', /authorization/);
  assert.equal(allowed.headers.get('access-control-allow-credentials'), null);
  assert.equal((await preflight('https://evil.example.com')).headers.get('access-control-allow-origin'), null);
  const key = { origin: ORIGIN, authorization: 'Bearer secret' };
  const ask = { model: 'tiny', prompt: 'Hi', max_tokens: 2 };
  for (const body of [ask, { ...ask, stream: true }, { model: 'tiny' }]) {
    const answer = await gateway.fetch('/v1/completions', body, { headers: key });
    await answer.text();
    assert.equal(answer.headers.get('access-control-allow-origin'), ORIGIN);
    assert.match(answer.headers.get('access-control-expose-headers') ?? '', /x-ratelimit-remaining-tokens/);
    assert.match(answer.headers.get('x-request-id') ?? '', /./);
  }
  const refused = await gateway.fetch('/v1/models', undefined, { headers: { origin: ORIGIN } });
  assert.deepEqual([refused.status, refused.headers.get('access-control-allow-origin')], [401, ORIGIN]);
});

test('headers that are too large or too many are refused', async () => {
  const large = await open();
  large.write(`GET /health HTTP/1.1\r\nhost: x\r\nx-large: ${'x'.repeat(20_000)}\r\n\r\n`);
  assert.match(await answerOf(large), /^HTTP\/1\.1 431 /);
  const many = await open();
  const lines = Array.from({ length: 500 }, (_, i) => `x-${i}: y\r\n`).join('');
  many.write(`GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n${lines}\r\n`);
  assert.match(await answerOf(many), /^HTTP\/1\.1 431 /);
});

test('heads and bodies that come drop by drop end at a time limit, and others are served meanwhile', async () => {
  const { server } = gateway.app;
  assert.ok(server.headersTimeout > 0 && server.headersTimeout <= 20_000);
  assert.ok(server.requestTimeout > 0 && server.requestTimeout <= 60_000);
  assert.equal(server.maxHeadersCount, 100);
  // The same limits, sooner.
  Object.assign(server, { headersTimeout: 500, requestTimeout: 1000 });
  const [head, body] = [await open(), await open()];
  const start = 'POST /v1/completions HTTP/1.1\r\nhost: x\r\n';
  head.write(start);
  body.write(
    `${start}authorization: Bearer secret\r\ncontent-type: application/json\r\ncontent-length: 500000\r\n\r\n`,
  );
  const drops = setInterval(() => {
    if (!head.destroyed) head.write('x-a: b\r\n');
    if (!body.destroyed) body.write(' ');
  }, 100);
  try {
    const answers = Promise.all([answerOf(head), answerOf(body)]);
    assert.equal((await gateway.fetch('/health')).status, 200);
    for (const text of await answers) assert.match(text, /^HTTP\/1\.1 408 /);
  } finally {
    clearInterval(drops);
  }
});

test('idle connections are bounded, and those beyond the bound keep nobody out for long', async () => {
  const idle = await Promise.all(Array.from({ length: 60 }, () => open().catch(() => null)));
  await eventually(() => idle.filter((socket) => socket?.destroyed).length >= 15, 'connections to be closed');
  for (const socket of idle) socket?.destroy();
  await eventually(async () => (await gateway.fetch('/health').catch(() => null))?.status === 200, 'an answer');
});

test('a client that reads nothing loses its stream, and the request ends', async () => {
  const socket = await open();
  socket.pause();
  const body = JSON.stringify({
    model: 'tiny',
    prompt: 'Hi',
    max_tokens: 200_000,
    stream: true,
    ignore_eos: true,
    logprobs: 5,
  });
  const head = `POST /v1/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer secret\r\ncontent-type: application/json\r\n`;
  socket.write(`${head}content-length: ${body.length}\r\n\r\n${body}`);
  await eventually(() => gateway.context.inFlight.size === 1, 'the request');
  const call = await eventually(() => gateway.router.calls.at(-1), 'the call');
  await call.whenCancelled;
  await eventually(() => gateway.context.inFlight.size === 0, 'the end');
  assert.ok(call.sent < 200_000);
});
