import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { isGuildhallError, systemClock } from '@guildhall/common';
import { ApiServer } from '../testing/api-server.ts';
import { apiFailureOf } from './api-error.ts';
import { KubeClient } from './client.ts';
import { type Credentials, inClusterCredentials } from './credentials.ts';

let api: ApiServer;
let dir: string;
let client: KubeClient | null;

beforeEach(async () => {
  api = await ApiServer.start();
  dir = mkdtempSync(join(tmpdir(), 'guildhall-sa-'));
  client = null;
  writeToken('first');
  writeFileSync(join(dir, 'ca.crt'), 'authority');
  writeFileSync(join(dir, 'namespace'), 'team-a\n');
});
afterEach(async () => {
  client?.close();
  await api.close();
  rmSync(dir, { recursive: true });
});

function writeToken(token: string): void {
  writeFileSync(join(dir, 'token'), `${token}\n`);
}

const ENV = { KUBERNETES_SERVICE_HOST: 'fd00::1', KUBERNETES_SERVICE_PORT: '443' };
const PATH = '/api/v1/namespaces/test/pods';

async function inCluster(clock = systemClock): Promise<Credentials> {
  const credentials = await inClusterCredentials({ env: ENV, clock, dir });
  assert.ok(credentials !== null);
  return credentials;
}

/** The pod's credentials, towards the test's server. */
function through(credentials: Credentials): KubeClient {
  client = new KubeClient(
    {
      server: api.url,
      namespace: null,
      current: () => credentials.current(),
      forget: () => credentials.forget(),
    },
    systemClock,
  );
  return client;
}

test('in a pod: address, namespace, token and authority; elsewhere nothing', async () => {
  const credentials = await inCluster();
  assert.equal(credentials.server.href, 'https://[fd00::1]/');
  assert.equal(credentials.namespace, 'team-a');
  assert.deepEqual((await credentials.current()).tls, { ca: 'authority' });
  assert.equal(await inClusterCredentials({ env: {}, clock: systemClock, dir }), null);
  assert.equal(await inClusterCredentials({ env: ENV, clock: systemClock, dir: `${dir}/none` }), null);
});

test('the token is read again every minute, and at once when the server refuses it', async () => {
  let jumpMs = 0;
  const credentials = await inCluster({ ...systemClock, monotonicMs: () => systemClock.monotonicMs() + jumpMs });
  const pods = through(credentials);
  const list = (): Promise<unknown> => pods.json({ method: 'GET', path: PATH });
  await list();
  writeToken('second');
  await list();
  jumpMs = 60_001;
  await list();
  writeToken('third');
  api.fault = (request) => (request.headers.authorization === 'Bearer third' ? null : { status: 401 });
  await assert.rejects(list(), (err) => apiFailureOf(err).status === 401);
  await list();
  assert.deepEqual(
    api.tokens.map((token) => token?.replace('Bearer ', '')),
    ['first', 'first', 'second', 'second', 'third'],
  );
});

test('a token that cannot be read for a moment is used on', async () => {
  const credentials = await inCluster();
  await credentials.current();
  rmSync(join(dir, 'token'));
  credentials.forget();
  assert.deepEqual((await credentials.current()).headers, { authorization: 'Bearer first' });
});

test('what the server refuses, and what it does not answer, are different errors that name the request', async () => {
  const pods = through(await inCluster());
  const failing = async (
    status: number,
    headers = {},
  ): Promise<{ code: string; message: string; failure: unknown }> => {
    api.fault = () => ({ status, headers });
    const err = await pods.json({ method: 'GET', path: PATH }).catch((reason: unknown) => reason);
    assert.ok(isGuildhallError(err));
    return { code: err.code, message: err.message, failure: apiFailureOf(err) };
  };
  assert.equal((await failing(403)).code, 'kubernetes_refused');
  assert.match((await failing(403)).message, /^GET \/api\/v1\/namespaces\/test\/pods: 403/);
  assert.equal((await failing(503)).code, 'kubernetes_unavailable');
  const busy = await failing(429, { 'retry-after': '3' });
  assert.deepEqual(busy.failure, { status: 429, reason: '', retryAfterMs: 3000 });
  api.fault = () => 'hang';
  const hung = pods.json({ method: 'GET', path: PATH, timeoutMs: 50 });
  await assert.rejects(hung, (err) => isGuildhallError(err) && err.code === 'kubernetes_unavailable');
});

test('requests share connections, and a line that is too long ends a watch', async () => {
  const pods = through(await inCluster());
  let sockets = 0;
  api.onConnection(() => (sockets += 1));
  for (let i = 0; i < 5; i++) await pods.json({ method: 'GET', path: PATH });
  assert.equal(sockets, 1);
  const read = async (): Promise<void> => {
    for await (const line of pods.lines(
      { method: 'GET', path: PATH, query: { watch: true, resourceVersion: '100' } },
      () => undefined,
    )) {
      assert.ok(line.length < 1 << 20);
    }
  };
  const reading = assert.rejects(read(), /a line of more than/);
  api.onWatch((response) => response.write('x'.repeat((8 << 20) + 1)));
  await reading;
});
