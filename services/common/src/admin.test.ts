import assert from 'node:assert/strict';
import { networkInterfaces } from 'node:os';
import { test } from 'node:test';
import { refuseForeignDrain, startAdminServer } from './admin.ts';
import { createMetrics } from './metrics.ts';
import { parseHostPort } from './service-options.ts';

/** A process whose state the test decides. */
class Process {
  reason: string | null = 'experts are missing';
  loaded = false;
  drains = 0;
  readonly drained = Promise.withResolvers<void>();
  readonly probes = {
    started: () => this.loaded,
    readiness: () => ({ ready: this.reason === null, reason: this.reason, details: { epoch: 4 } }),
    drain: () => {
      this.drains += 1;
      this.reason = 'shutting down';
      return this.drained.promise;
    },
  };
}

async function ask(address: string, path: string, init?: RequestInit): Promise<[number, string]> {
  const response = await fetch(`http://${address}${path}`, init);
  return [response.status, await response.text()];
}

test('the admin server tells alive, started and ready apart', async () => {
  const process = new Process();
  const admin = await startAdminServer('127.0.0.1:0', createMetrics('expert'), process.probes);
  const get = (path: string, init?: RequestInit): Promise<[number, string]> => ask(admin.address, path, init);
  try {
    assert.deepEqual(await get('/health'), [200, '{"status":"alive"}']);
    assert.deepEqual(await get('/started'), [503, '{"started":false}']);
    process.loaded = true;
    assert.deepEqual(await get('/started'), [200, '{"started":true}']);
    assert.deepEqual(await get('/ready'), [503, '{"ready":false,"reason":"experts are missing","epoch":4}']);
    process.reason = null;
    assert.equal((await get('/ready?x=1'))[0], 200);
    assert.match((await get('/metrics'))[1], /guildhall_redis_up/);
    assert.equal((await get('/nothing'))[0], 404);
    assert.equal((await get('/health', { method: 'POST' }))[0], 405);
    assert.equal((await get('/drain'))[0], 405);
    assert.equal(process.drains, 0);
    await assert.rejects(startAdminServer(admin.address, createMetrics('expert'), process.probes), {
      code: 'config_invalid',
      field: 'adminListen',
    });
  } finally {
    await admin.close();
  }
});

test('POST /drain takes readiness away at once and answers when the drain is over', async () => {
  const process = new Process();
  process.reason = null;
  const admin = await startAdminServer('127.0.0.1:0', createMetrics('expert'), process.probes);
  try {
    let answered = false;
    const drain = ask(admin.address, '/drain', { method: 'POST' }).then((answer) => {
      answered = true;
      return answer;
    });
    while (process.drains === 0) await ask(admin.address, '/health');
    assert.equal((await ask(admin.address, '/ready'))[0], 503);
    assert.equal(answered, false);
    process.drained.resolve();
    assert.deepEqual(await drain, [200, '{"drained":true}']);
  } finally {
    await admin.close();
  }
});

test('other machines and web pages may not ask for a drain', async () => {
  for (const peer of ['127.0.0.1', '127.8.8.8', '::1', '::ffff:127.0.0.1']) refuseForeignDrain(peer, undefined);
  for (const peer of [undefined, '', '10.244.0.7', '::ffff:10.244.0.7', 'fd00::7'])
    assert.throws(() => refuseForeignDrain(peer, undefined), { code: 'forbidden' }, peer);
  assert.throws(() => refuseForeignDrain('127.0.0.1', 'http://evil.example'), { code: 'forbidden' });
  const process = new Process();
  process.drained.resolve();
  const admin = await startAdminServer('0.0.0.0:0', createMetrics('expert'), process.probes);
  try {
    const { port } = parseHostPort(admin.address);
    assert.equal((await ask(`127.0.0.1:${port}`, '/drain', { method: 'POST', headers: { origin: 'null' } }))[0], 403);
    // A machine without a network has only loopback to come from.
    const own = Object.values(networkInterfaces()).flat();
    const outside = own.find((address) => address?.family === 'IPv4' && !address.internal)?.address;
    if (outside !== undefined) assert.equal((await ask(`${outside}:${port}`, '/drain', { method: 'POST' }))[0], 403);
    assert.equal(process.drains, 0);
    assert.equal((await ask(`127.0.0.1:${port}`, '/drain', { method: 'POST' }))[0], 200);
  } finally {
    await admin.close();
  }
});
