import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { eventually } from '@guildhall/common/testing';
import type { FakeScript } from '../../../../test/fakes/fake-router.ts';
import { GatewayUnderTest, TINY_DIR, tokensOf } from '../testing/gateway-under-test.ts';
import { makeKey, refusalOf, withKey } from '../testing/keyed.ts';
import { QUOTA_LEASE_MS } from './quota-guard.ts';

const MAIN = fileURLToPath(new URL('../main.ts', import.meta.url));
let gateway: GatewayUnderTest;
let doomed: ChildProcess;
let address = '';
let script: FakeScript;

before(async () => {
  script = { tokens: await tokensOf('alpha beta gamma delta epsilon') };
  gateway = await GatewayUnderTest.start({ requireKey: true }, { script: () => script });
  const flags = ['--model', TINY_DIR, '--redis', gateway.redis.url, '--cluster', 'test', '--listen', '127.0.0.1:0'];
  doomed = spawn(process.execPath, [MAIN, ...flags, '--require-key'], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = (await once(createInterface({ input: doomed.stdout as NodeJS.ReadableStream }), 'line')) as [string];
  ({ address } = JSON.parse(line) as { address: string });
  await eventually(async () => (await fetch(`http://${address}/ready`)).status === 200, 'the gateway to be ready');
});
after(async () => {
  doomed.kill('SIGKILL');
  await gateway.stop();
});

const body = JSON.stringify({ model: 'tiny', prompt: 'Hi', max_tokens: 5, stream: true });

test('the places of a gateway that was killed with its streams are free again when their leases are over', async () => {
  const { key, record } = await makeKey(gateway, { concurrency: 3 });
  gateway.router.holdBeforeToken(2);
  const headers = { 'content-type': 'application/json', authorization: `Bearer ${key}` };
  const streams = Array.from({ length: 3 }, () =>
    fetch(`http://${address}/v1/completions`, { method: 'POST', headers, body }).then((answer) => answer.text()),
  );
  await eventually(() => gateway.router.calls.filter(({ sent }) => sent === 2).length === 3, 'three streams');
  const other = (): Promise<Response> =>
    gateway.fetch('/v1/completions', { model: 'tiny', prompt: 'Hi', max_tokens: 1 }, withKey(key));
  assert.equal((await refusalOf(await other())).reason, 'concurrency');
  const leases = gateway.accounts.names.quotaLeases(`key:${record.id}`);
  assert.equal(await gateway.accounts.redis.zcard(leases), 3);
  const told = async (): Promise<number> => {
    const hour = Math.floor(Date.now() / 3_600_000);
    const rows = await gateway.accounts.usage.read(hour - 1, hour + 1, { tenant: record.tenant, keyId: record.id });
    return rows.reduce((sum, { outputTokens }) => sum + outputTokens, 0);
  };
  await eventually(async () => (await told()) === 6, 'the usage of running streams to be told');
  doomed.kill('SIGKILL');
  const ended = await Promise.allSettled(streams);
  assert.ok(ended.every(({ status }) => status === 'rejected'));
  gateway.router.release();
  // Nobody renews them any more; that much time has passed.
  for (const lease of await gateway.accounts.redis.zrange(leases, '0', '-1'))
    await gateway.accounts.redis.zincrby(leases, String(-QUOTA_LEASE_MS), lease);
  assert.equal((await other()).status, 200);
});
