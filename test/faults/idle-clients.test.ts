import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { after, before, test } from 'node:test';
import { Cluster as Members, systemClock } from '@guildhall/common';
import { RedisServer, silentLogger } from '@guildhall/common/testing';
import { Tokenizer } from '@guildhall/model/tokenizer';
import { control } from '@guildhall/proto';
import { FakeRouter } from '../fakes/fake-router.ts';
import { residentMiB } from '../harness/index.ts';
import { readSamples, sumOf } from '../harness/samples.ts';
import { ServiceProcess, TINY } from '../harness/service-process.ts';
import { until as untilLimit } from '../harness/wait.ts';

/** Streams whose clients read nothing while their router says nothing. */
const STREAMS = 2000;
/** Connections that had an answer and ask for nothing more. */
const KEPT = 1000;
/** What a stream may cost the gateway beside what the kernel keeps, KiB. */
const KIB_PER_STREAM = 160;
/** Token before which the router stops. */
const PAUSE = 3;

/** Thousands of requests take their time on a busy machine. */
const LIMIT_MS = 240_000;
const until = <T>(what: string, probe: () => Promise<T | false | null> | T | false | null): Promise<T> =>
  untilLimit(what, probe, LIMIT_MS);

let redis: RedisServer;
let members: Members;
let router: FakeRouter;
let gateway: ServiceProcess;
let listening: { address: string; admin: string };
const sockets = new Set<Socket>();

before(async () => {
  redis = await RedisServer.start();
  members = new Members({ redis: redis.url, cluster: 'default', clock: systemClock, logger: silentLogger() });
  const tokens = [...(await Tokenizer.load(TINY).encode('x</think>One two three four five six'))];
  router = await FakeRouter.start({ script: () => ({ tokens }) });
  const value = (): Uint8Array => control.Member.encode(router.member()).finish();
  const { id, incarnation } = router;
  await members.lease({ kind: 'router', id, incarnation, value, onLost: () => undefined }).join();
  const args = ['--model', TINY, '--redis', redis.url, '--max-in-flight', '2100', '--stall-ms', '0'];
  gateway = new ServiceProcess({ service: 'gateway', args: [...args, '--keep-alive-ms', '1000'], env: {} });
  listening = await gateway.listening();
  await until('the gateway to be ready', async () => (await fetch(`http://${listening.address}/ready`)).status === 200);
});
after(async () => {
  for (const socket of sockets) socket.destroy();
  await gateway.stop();
  await members.close();
  await router.stop();
  await redis.stop();
});

function body(fields: object): string {
  return JSON.stringify({ model: 'tiny', messages: [{ role: 'user', content: 'Hi' }], ...fields });
}

/** Sends a request on a connection of its own. */
async function send(method: string, path: string, payload = ''): Promise<Socket> {
  const [host = '', port = ''] = listening.address.split(':');
  const socket = connect(Number(port), host).on('error', () => undefined);
  sockets.add(socket);
  await once(socket, 'connect');
  socket.pause();
  const head = `${method} ${path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n`;
  socket.write(`${head}content-length: ${payload.length}\r\n\r\n${payload}`);
  return socket;
}

/** Everything that comes until the text ends as given. */
async function readTo(socket: Socket, end: string): Promise<string> {
  let text = '';
  for await (const chunk of socket.setEncoding('utf8').iterator({ destroyOnReturn: false })) {
    text += String(chunk);
    if (text.endsWith(end)) break;
  }
  return text;
}

/** Does something so many times, a hundred at a time. */
async function times<T>(count: number, make: () => Promise<T>): Promise<T[]> {
  const made: T[] = [];
  while (made.length < count) {
    const some = Array.from({ length: Math.min(100, count - made.length) }, make);
    made.push(...(await Promise.all(some)));
  }
  return made;
}

async function gauges(): Promise<{ streams: number; running: number; queued: number }> {
  const samples = readSamples(await (await fetch(`http://${listening.admin}/metrics`)).text());
  return {
    streams: sumOf(samples, 'guildhall_http_streams'),
    running: sumOf(samples, 'guildhall_http_in_flight'),
    queued: sumOf(samples, 'guildhall_gateway_queued_requests'),
  };
}

/** Files and sockets that the gateway has open. */
function openFiles(): number {
  return readdirSync(`/proc/${gateway.pid}/fd`).length;
}

/** A request that waits for no token at which the router stops. */
async function answered(): Promise<void> {
  const response = await fetch(`http://${listening.address}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: body({ max_tokens: PAUSE }),
  });
  assert.equal(response.status, 200, await response.text());
}

const stream = (): Promise<Socket> => send('POST', '/v1/chat/completions', body({ stream: true }));

test('thousands of idle streams and connections cost little, hold nobody up, and give everything back', async (t) => {
  // The first ones load code and grow the heap.
  for (const socket of await times(100, stream)) sockets.delete(socket.resume());
  await until('the first streams to end', async () => (await gauges()).running === 0);
  for (const socket of await times(100, () => send('GET', '/health'))) socket.destroy();
  const filesBefore = openFiles();
  router.holdBeforeToken(PAUSE);
  const kept = await times(KEPT, () => send('GET', '/health'));
  for (const socket of kept) assert.match(await readTo(socket, '}'), /^HTTP\/1\.1 200 /);
  const before = residentMiB(gateway.pid);
  const streams = await times(STREAMS, stream);
  await until('all streams to be open', async () => (await gauges()).streams === STREAMS);
  await until('the router to have all', () => router.calls.filter(({ sent }) => sent === PAUSE).length === STREAMS);
  assert.deepEqual(await gauges(), { streams: STREAMS, running: STREAMS, queued: 0 });
  for (let i = 0; i < 5; i += 1) await answered();
  const kib = ((residentMiB(gateway.pid) - before) * 1024) / STREAMS;
  t.diagnostic(`${kib.toFixed(1)} KiB a stream`);
  assert.ok(kib < KIB_PER_STREAM, `${kib} KiB a stream`);

  // One half goes away, the other half waits for its end.
  const gone = streams.slice(0, STREAMS / 2);
  for (const socket of gone) socket.destroy();
  await until('the gateway to let go of those', async () => (await gauges()).running === STREAMS / 2);
  await until(
    'the router to hear of it',
    () => router.calls.filter(({ cancelled }) => cancelled).length >= gone.length,
  );
  await answered();
  router.release();
  for (const socket of streams.slice(STREAMS / 2)) {
    const text = await readTo(socket, '0\r\n\r\n');
    assert.match(text, /: keep-alive[\s\S]*"content":" six"[\s\S]*data: \[DONE\]/);
  }
  await until('all places to be free', async () => (await gauges()).running === 0);
  assert.deepEqual(await gauges(), { streams: 0, running: 0, queued: 0 });
  for (const socket of sockets) socket.destroy();
  await until('all sockets to be closed', () => openFiles() <= filesBefore + 10);
  await answered();
});
