import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { systemClock } from '../clock.ts';
import { eventually, RedisServer, silentLogger } from '../testing/index.ts';
import { Accounts } from './accounts.ts';
import { HOUR_MS, MAX_USAGE_HOURS, noUsage } from './usage-store.ts';

let server: RedisServer;
let accounts: Accounts;
const KEEP_MS = 90 * 24 * HOUR_MS;

before(async () => {
  server = await RedisServer.start();
  accounts = new Accounts({ redis: server.url, name: 'usage', clock: systemClock, logger: silentLogger() });
  await eventually(() => accounts.redis.status === 'ready', 'connection');
});
after(async () => {
  accounts.close();
  await server.stop();
});

async function hourNow(): Promise<number> {
  const [seconds] = await accounts.redis.time();
  return Math.floor(Number(seconds) / 3600);
}

const one = { tenant: 'team', keyId: 'k1' };
const two = { tenant: 'team', keyId: 'k2' };

test('reports add up within their hour, each once however often it is sent', async () => {
  const { usage } = accounts;
  const report = [
    { ...one, ...noUsage(), requests: 1, inputTokens: 10, expertMicros: 1500.4 },
    { ...two, ...noUsage(), requests: 2, outputTokens: 7 },
  ];
  await usage.add('g1', 1, report, KEEP_MS);
  await usage.add('g1', 1, report, KEEP_MS);
  await usage.add('g2', 1, [{ ...one, ...noUsage(), cachedTokens: 4, reasoningTokens: 3 }], KEEP_MS);
  await usage.add('g1', 2, [{ ...one, ...noUsage(), inputTokens: 5 }], KEEP_MS);
  const hour = await hourNow();
  const rows = (await usage.read(hour - 1, hour + 1)).toSorted((a, b) => a.keyId.localeCompare(b.keyId));
  assert.deepEqual(
    rows.map(({ hour: _hour, ...row }) => row),
    [
      {
        ...one,
        requests: 1,
        inputTokens: 15,
        cachedTokens: 4,
        outputTokens: 0,
        reasoningTokens: 3,
        expertMicros: 1500,
      },
      { ...two, ...noUsage(), requests: 2, outputTokens: 7 },
    ],
  );
  assert.deepEqual(
    (await usage.read(hour - 1, hour + 1, two)).map(({ keyId, requests }) => [keyId, requests]),
    [['k2', 2]],
  );
  assert.deepEqual(await usage.read(hour - 200, hour - 1), []);
  assert.ok((await accounts.redis.pttl(accounts.names.usage(hour))) > KEEP_MS - HOUR_MS);
});

test('a range that is too long is refused', async () => {
  await assert.rejects(accounts.usage.read(0, MAX_USAGE_HOURS + 1), { code: 'invalid_value' });
});

test('with Redis away every call says so', async () => {
  await server.kill();
  for (const call of [() => accounts.usage.read(1, 2), () => accounts.usage.add('g', 9, [], KEEP_MS)])
    await assert.rejects(call, { code: 'redis_unavailable' });
  await server.restart();
});
