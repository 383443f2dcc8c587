import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type BenchServeFlags, settingsOf } from './settings.ts';
import { exitStatus } from './verdict.ts';

const FLAGS: BenchServeFlags = {
  url: null,
  header: [],
  api: 'chat',
  arrivals: 'poisson',
  burstiness: '1',
  prompt: 'sharegpt',
  output: 'sharegpt',
  sharedPrefix: '0',
  prefixGroups: '1',
  turns: '1',
  think: '0',
  warmup: '4',
  timeout: '10m',
  maxInFlight: '4096',
  temperature: '0',
  ignoreEos: true,
  body: '{}',
  maxFailures: '0',
  seed: '1',
};

test('the load is one of rates, clients and speeds', () => {
  const points = (change: Partial<BenchServeFlags>): unknown => settingsOf({ ...FLAGS, ...change }, null).points;
  assert.deepEqual(points({}), [{ kind: 'concurrency', clients: 1 }]);
  assert.deepEqual(points({ rate: '0.5,2' }), [
    { kind: 'rate', perSecond: 0.5 },
    { kind: 'rate', perSecond: 2 },
  ]);
  assert.deepEqual(points({ trace: 't' }), [{ kind: 'replay', speed: 1 }]);
  assert.deepEqual(points({ trace: 't', concurrency: '8' }), [{ kind: 'concurrency', clients: 8 }]);
  for (const bad of [{ rate: '1', concurrency: '1' }, { speed: '2' }, { rate: Array(65).fill('1').join(',') }])
    assert.throws(() => points(bad), { code: 'config_invalid' });
});

test('a made-up load ends after 200 requests unless something else bounds it', () => {
  const limits = (change: Partial<BenchServeFlags>): unknown => settingsOf({ ...FLAGS, ...change }, null).limits;
  assert.deepEqual(limits({}), { requests: 200, durationMs: null });
  assert.deepEqual(limits({ duration: '30s' }), { requests: null, durationMs: 30_000 });
  assert.deepEqual(limits({ duration: '30s', requests: '9' }), { requests: 9, durationMs: 30_000 });
  assert.deepEqual(limits({ trace: 't' }), { requests: null, durationMs: null });
});

test('every flag that is wrong is named', () => {
  const wrong: [Partial<BenchServeFlags>, string][] = [
    [{ rate: '0' }, '--rate'],
    [{ rate: '1,,2' }, '--rate'],
    [{ rate: 'x' }, '--rate'],
    [{ concurrency: '1.5' }, '--concurrency'],
    [{ arrivals: 'burst' }, '--arrivals'],
    [{ api: 'grpc' }, '--api'],
    [{ header: ['novalue'] }, '--header'],
    [{ body: '[1]' }, '--body'],
    [{ body: '{' }, '--body'],
    [{ slo: 'ttft' }, '--slo'],
    [{ minAttainment: '2' }, '--min-attainment'],
    [{ requests: '0' }, '--requests'],
    [{ prompt: 'long' }, '--prompt'],
    [{ seed: '-1' }, '--seed'],
    [{ url: 'nowhere' }, '--url'],
    [{ apiKeyFile: '/nowhere/key' }, '--api-key-file'],
  ];
  for (const [change, flag] of wrong)
    assert.throws(() => settingsOf({ ...FLAGS, ...change }, null), { code: 'config_invalid', field: flag }, flag);
});

test('the running stack is the default, and keys and headers are sent', () => {
  const settings = settingsOf({ ...FLAGS, apiKey: 'k', header: ['X-Team: a: b'] }, 'http://127.0.0.1:9/');
  assert.equal(settings.url, 'http://127.0.0.1:9');
  assert.deepEqual(settings.headers, { authorization: 'Bearer k', 'x-team': 'a: b' });
});

test('the exit status says whether what was demanded was kept', () => {
  const point = (succeeded: number, failed: number, attainment: number | null): never =>
    ({ label: 'p', requests: { succeeded, failed }, attainment }) as never;
  const demands = { maxFailures: 0, minAttainment: null };
  assert.equal(exitStatus({ partial: false, points: [point(5, 0, null)] }, demands).status, 0);
  assert.match(exitStatus({ partial: false, points: [point(4, 1, null)] }, demands).reason ?? '', /p: 1 of 5/);
  assert.equal(exitStatus({ partial: false, points: [point(4, 1, null)] }, { ...demands, maxFailures: 0.2 }).status, 0);
  assert.equal(exitStatus({ partial: false, points: [point(0, 0, null)] }, demands).status, 1);
  assert.equal(exitStatus({ partial: false, points: [point(0, 3, null)] }, { ...demands, maxFailures: 1 }).status, 1);
  assert.equal(
    exitStatus({ partial: false, points: [point(5, 0, 0.94)] }, { ...demands, minAttainment: 0.95 }).status,
    1,
  );
  assert.equal(
    exitStatus({ partial: false, points: [point(5, 0, 0.95)] }, { ...demands, minAttainment: 0.95 }).status,
    0,
  );
  assert.equal(exitStatus({ partial: true, points: [point(0, 9, 0)] }, demands).status, 130);
});
