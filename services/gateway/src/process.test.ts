import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { Agent, type IncomingMessage, request } from 'node:http';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { after, before, test } from 'node:test';
import { Cluster, systemClock } from '@guildhall/common';
import { eventually, RedisServer, silentLogger } from '@guildhall/common/testing';
import { control } from '@guildhall/proto';
import { FakeRouter } from '../../../test/fakes/fake-router.ts';
import { TINY_DIR, tokensOf } from './testing/gateway-under-test.ts';

const MAIN = fileURLToPath(new URL('./main.ts', import.meta.url));

let redis: RedisServer;
let cluster: Cluster;
let router: FakeRouter;
const children: ChildProcess[] = [];

before(async () => {
  redis = await RedisServer.start();
  cluster = new Cluster({ redis: redis.url, cluster: 'default', clock: systemClock, logger: silentLogger() });
  await cluster.members.start();
  const tokens = await tokensOf('x</think>One two three four five six');
  router = await FakeRouter.start({ script: () => ({ tokens }), clusterToken: 'cluster-secret' });
  const value = (): Uint8Array => control.Member.encode(router.member()).finish();
  await cluster
    .lease({ kind: 'router', id: router.id, incarnation: router.incarnation, value, onLost: () => undefined })
    .join();
});

after(async () => {
  for (const child of children) child.kill('SIGKILL');
  await cluster.close();
  await router.stop();
  await redis.stop();
});

interface Started {
  child: ChildProcess;
  /** The first line of its output, or null when it ended without one. */
  line: { address: string; admin: string } | null;
  stderr: () => string;
}

/** Starts the real process and waits for its listening line or its end. */
async function start(...args: string[]): Promise<Started> {
  const flags = ['--model', TINY_DIR, '--redis', redis.url, '--cluster-token', 'cluster-secret', ...args];
  const child = spawn(process.execPath, [MAIN, ...flags], { stdio: ['ignore', 'pipe', 'pipe'] });
  children.push(child);
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const lines = createInterface({ input: child.stdout });
  const [line] = (await Promise.race([once(lines, 'line'), once(child, 'close').then(() => [null])])) as [
    string | null,
  ];
  return { child, line: line === null ? null : (JSON.parse(line) as Started['line']), stderr: () => stderr };
}

const ask = JSON.stringify({ model: 'tiny', messages: [{ role: 'user', content: 'Hi' }], stream: true });

function post(address: string): Promise<Response> {
  return fetch(`http://${address}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: ask,
  });
}

test('the process serves, is a member, and ends its streams before itself on SIGTERM', async () => {
  const { child, line, stderr } = await start('--listen', '127.0.0.1:0', '--id', 'gateway-1');
  assert.ok(line !== null, stderr());
  await eventually(async () => (await fetch(`http://${line.address}/ready`)).status === 200, 'the gateway to be ready');
  assert.equal((await fetch(`http://${line.admin}/ready`)).status, 200);
  assert.match(
    await (await fetch(`http://${line.admin}/metrics`)).text(),
    /guildhall_build_info|process_cpu_seconds_total/,
  );
  const member = await eventually(() => cluster.members.members().find(({ kind }) => kind === 'gateway'), 'the member');
  const { id, address, servedModels } = control.Member.decode(member.value);
  assert.deepEqual([id, address, servedModels], ['gateway-1', line.address, ['tiny']]);

  router.holdBeforeToken(3);
  const response = await post(line.address);
  await eventually(() => router.calls.at(-1)?.sent === 3, 'three tokens');
  child.kill('SIGTERM');
  const refused = await eventually(async () => {
    const probe = await fetch(`http://${line.address}/ready`).catch(() => null);
    return probe?.status === 503 && probe;
  }, 'the gateway to say that it is going');
  assert.equal(((await refused.json()) as { reason: string }).reason, 'shutting down');
  const late = await post(line.address);
  assert.equal(late.status, 503);
  assert.equal(late.headers.get('connection'), 'close');
  router.release();
  assert.match(await response.text(), /"content":" six"[\s\S]*data: \[DONE\]/);
  const [code] = (await once(child, 'exit')) as [number];
  assert.equal(code, 0);
  await eventually(() => !cluster.members.members().some(({ kind }) => kind === 'gateway'), 'the member to leave');
});

/** Sends requests one after the other on one connection. */
function onOneConnection(address: string): (method: string, path: string, body?: string) => Promise<IncomingMessage> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const headers = { 'content-type': 'application/json' };
  return async (method, path, body) => {
    const call = request(`http://${address}${path}`, { agent, method, headers });
    call.end(body);
    const [answer] = (await once(call, 'response')) as [IncomingMessage];
    return answer;
  };
}

test('a drain lingers: new requests are still taken, each closes its connection, and kept connections have one more', async () => {
  const { child, line, stderr } = await start('--listen', '127.0.0.1:0', '--linger-ms', '1500');
  assert.ok(line !== null, stderr());
  await eventually(async () => (await fetch(`http://${line.admin}/ready`)).status === 200, 'the gateway to be ready');
  assert.equal((await fetch(`http://${line.admin}/started`)).status, 200);
  router.holdBeforeToken(3);
  const early = await post(line.address);
  assert.notEqual(early.headers.get('connection'), 'close');
  const calls = router.calls.length;
  const kept = onOneConnection(line.address);
  (await kept('GET', '/health')).resume();
  let drained = false;
  const drain = fetch(`http://${line.admin}/drain`, { method: 'POST' }).then((answer) => {
    drained = true;
    return answer.status;
  });
  await eventually(async () => (await fetch(`http://${line.admin}/ready`)).status === 503, 'readiness to go');
  const late = await post(line.address);
  assert.equal(late.status, 200);
  assert.equal(late.headers.get('connection'), 'close');
  await eventually(() => router.calls.length === calls + 1, 'the late request to reach the router');
  const refused = await eventually(async () => {
    const answer = await post(line.address);
    if (answer.status === 503) return answer;
    await answer.body?.cancel();
    return false;
  }, 'the linger to end');
  assert.equal(refused.headers.get('connection'), 'close');
  assert.equal(drained, false);
  const last = await kept('POST', '/v1/chat/completions', ask);
  assert.deepEqual([last.statusCode, last.headers.connection], [200, 'close']);
  router.release();
  for (const answer of [early, late]) assert.match(await answer.text(), /"content":" six"[\s\S]*data: \[DONE\]/);
  assert.match((await last.setEncoding('utf8').toArray()).join(''), /"content":" six"[\s\S]*data: \[DONE\]/);
  assert.equal(await drain, 200);
  // A drained gateway lives on until it is told to end, and then does at once.
  assert.equal((await fetch(`http://${line.admin}/health`)).status, 200);
  child.kill('SIGTERM');
  assert.deepEqual(await once(child, 'exit'), [0, null]);
});

test('nothing of a prompt or an answer is logged, at any level', async () => {
  const { child, line, stderr } = await start('--listen', '127.0.0.1:0', '--log-level', 'trace');
  assert.ok(line !== null, stderr());
  await eventually(async () => (await fetch(`http://${line.address}/ready`)).status === 200, 'the gateway to be ready');
  const secret = 'zebra-crossing-77';
  const send = (body: object): Promise<Response> =>
    fetch(`http://${line.address}/v1/chat/completions?q=${secret}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
  const messages = [{ role: 'user', content: secret }];
  for (const body of [
    { model: 'tiny', messages },
    { model: 'tiny', messages, stop: [secret, 5] },
    { model: secret, messages },
  ])
    await (await send(body)).text();
  child.kill('SIGTERM');
  await once(child, 'exit');
  assert.match(stderr(), /"msg":"request"/);
  assert.ok(!stderr().includes(secret), stderr());
});

/** Expects that the process ends by itself with a one-line reason. */
async function refuses(code: string, field: string, ...args: string[]): Promise<string> {
  const { child, line, stderr } = await start(...args);
  assert.equal(line, null);
  assert.equal(child.exitCode, 1);
  const reason =
    stderr()
      .split('\n')
      .find((text) => text.includes('"event":"fatal"')) ?? '';
  const fatal = JSON.parse(reason) as { code: string; field: string; message: string };
  assert.deepEqual([fatal.code, fatal.field], [code, field], stderr());
  return fatal.message;
}

test('a listen address that others can reach is refused without API keys', async () => {
  assert.match(await refuses('insecure_listen', 'listen', '--listen', '0.0.0.0:0'), /--api-key/);
  const { child, line } = await start('--listen', '0.0.0.0:0', '--advertise', '127.0.0.1:1', '--api-key', 'secret-key');
  assert.ok(line !== null);
  child.kill('SIGKILL');
  const open = await start('--listen', '0.0.0.0:0', '--advertise', '127.0.0.1:0', '--allow-anonymous');
  assert.ok(open.line !== null, open.stderr());
  open.child.kill('SIGKILL');
});

test('a busy port and a missing checkpoint are named', async () => {
  const busy = createServer().listen(0, '127.0.0.1');
  await once(busy, 'listening');
  const { port } = busy.address() as { port: number };
  assert.match(await refuses('config_invalid', 'listen', '--listen', `127.0.0.1:${port}`), /EADDRINUSE/);
  busy.close();
  await refuses('checkpoint_not_found', null as never, '--model', '/nowhere');
});
