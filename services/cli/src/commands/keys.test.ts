import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Accounts, noUsage, systemClock, type UsageRow } from '@guildhall/common';
import { eventually, silentLogger } from '@guildhall/common/testing';
import { PlacedCluster } from '../testing/placed-cluster.ts';
import { durationMs, limitValue, priorityValue } from './key-values.ts';
import { groupUsage, usageCsv } from './usage-report.ts';

let placed: PlacedCluster;
let accounts: Accounts;

before(async () => {
  placed = await PlacedCluster.start(1);
  accounts = new Accounts({ redis: placed.redis.url, name: 'test', clock: systemClock, logger: silentLogger() });
  await eventually(() => accounts.redis.status === 'ready', 'connection');
});
after(async () => {
  accounts.close();
  await placed.stop();
});

async function run(...args: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return placed.run(...args).end;
}

interface KeyJson {
  key?: string;
  id: string;
  tenant: string;
  revoked: string | null;
  requests_per_minute: number | null;
  models: string[] | null;
  [name: string]: unknown;
}

async function json(...args: string[]): Promise<KeyJson[]> {
  const { code, stdout, stderr } = await run(...args, '--json');
  assert.equal(code, 0, stderr);
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as KeyJson);
}

test('keys are made, listed, shown, changed, copied and revoked', async () => {
  const options = ['--tenant', 'team', '--requests-per-minute', '60', '--model', 'tiny', '--expires', '30d'];
  const [made] = await json('keys', 'create', '--name', 'ci', ...options);
  assert.match(made?.key ?? '', /^gh_[0-9a-z]{12}_[0-9A-Za-z]{43}$/);
  const id = made?.id ?? '';
  const stored = await accounts.keys.read(id);
  assert.deepEqual(
    [stored?.record.name, stored?.record.requestsPerMinute, stored?.record.models],
    ['ci', 60, ['tiny']],
  );
  const [shown] = await json('keys', 'show', id);
  assert.deepEqual([shown?.tenant, shown?.key], ['team', undefined]);
  const [changed] = await json(
    'keys',
    'change',
    id,
    '--requests-per-minute',
    'none',
    '--any-model',
    '--priority',
    '-5',
  );
  assert.deepEqual([changed?.requests_per_minute, changed?.models, changed?.['priority']], [null, null, -5]);
  const [copy] = await json('keys', 'create', '--like', id, '--concurrency', '2');
  assert.deepEqual([copy?.tenant, copy?.['priority'], copy?.['concurrency'], copy?.['expires']], ['team', -5, 2, null]);
  assert.equal((await json('keys', 'list', '--tenant', 'team')).length, 2);
  const [gone] = await json('keys', 'revoke', id);
  assert.match(gone?.revoked ?? '', /^20\d\d-/);
  assert.equal((await accounts.keys.read(id))?.hash, null);
  assert.equal((await json('keys', 'list', '--tenant', 'team')).length, 1);
  assert.equal((await json('keys', 'list', '--tenant', 'team', '--all')).length, 2);
});

test('for people the key alone is on stdout, and lists are tables', async () => {
  const made = await run('keys', 'create', '--tenant', 'people');
  assert.match(made.stdout, /^gh_\w+\n$/);
  assert.match(made.stderr, /not shown again/);
  const list = await run('keys', 'list', '--tenant', 'people');
  assert.match(list.stdout, /^ID +TENANT +NAME +STATE +REQ\/MIN.*\n\S{12} +people +- +valid +- +- +- +0 +never\n$/);
});

test('what makes no sense is refused with what does, and a whole key is never repeated', async () => {
  const [made] = await json('keys', 'create');
  const whole = await run('keys', 'revoke', made?.key ?? '');
  assert.equal(whole.code, 1);
  assert.match(whole.stderr, /no id of a key/);
  assert.ok(!`${whole.stderr}${whole.stdout}`.includes(made?.key ?? ''));
  const refused: [string[], RegExp][] = [
    [['keys', 'show', '000000000000'], /there is no key 000000000000/],
    [['keys', 'change', made?.id ?? ''], /nothing to change/],
    [['keys', 'create', '--requests-per-minute', '0'], /'0' is no quota/],
    [['keys', 'create', '--priority', 'high'], /'high' is no priority/],
    [['keys', 'create', '--expires', 'soon'], /'soon' is no time/],
    [['keys', 'create', '--expires', '2020-01-01'], /in the past/],
    [['keys', 'create', '--tenant', 'a b'], /expected 1 to 63 letters/],
    [['usage', '--since', '1h', '--until', '2h'], /must be before --until/],
  ];
  for (const [args, message] of refused) {
    const { code, stderr } = await run(...args);
    assert.equal(code, 1, args.join(' '));
    assert.match(stderr, message);
  }
});

test('usage is told by key, tenant and hour', async () => {
  const rows = [
    { tenant: 'a', keyId: 'k1', ...noUsage(), requests: 1, inputTokens: 10, outputTokens: 5, expertMicros: 2500 },
    { tenant: 'a', keyId: 'k2', ...noUsage(), requests: 2, inputTokens: 20, outputTokens: 50 },
    { tenant: 'b', keyId: 'k3', ...noUsage(), requests: 4 },
  ];
  await accounts.usage.add('test', 1, rows, 3_600_000);
  const byKey = await json('usage');
  assert.deepEqual(
    byKey.map(({ key, requests }) => [key, requests]),
    [
      ['k2', 2],
      ['k1', 1],
      ['k3', 4],
    ],
  );
  assert.equal(byKey[1]?.['expert_ms'], 2.5);
  const byTenant = await json('usage', '--by', 'tenant', '--since', '2h');
  assert.deepEqual(
    byTenant.map(({ tenant, output_tokens: output }) => [tenant, output]),
    [
      ['a', 55],
      ['b', 0],
    ],
  );
  assert.deepEqual(
    (await json('usage', '--key', 'k3', '--by', 'none')).map(({ requests }) => requests),
    [4],
  );
  const text = await run('usage', '--tenant', 'a');
  assert.match(
    text.stdout,
    /^TENANT +KEY +REQUESTS +INPUT +CACHED +OUTPUT +REASONING +EXPERT MS\na +k2 +2 +20 +0 +50 +0 +0\n/,
  );
  assert.match((await run('usage', '--since', '2020-01-01', '--until', '2020-01-02')).stderr, /nothing was used/);
});

test('rows are grouped without losing any', () => {
  const row = (hour: number, tenant: string, requests: number): UsageRow => ({
    hour,
    tenant,
    keyId: tenant,
    ...noUsage(),
    requests,
  });
  const rows = [row(3, 'a', 1), row(2, 'a', 2), row(3, 'b', 4)];
  assert.deepEqual(
    groupUsage(rows, ['hour']).map(({ hour, requests }) => [hour, requests]),
    [
      ['1970-01-01T02:00:00.000Z', 2],
      ['1970-01-01T03:00:00.000Z', 5],
    ],
  );
  for (const by of [['tenant'], ['key'], ['day', 'key'], []] as const)
    assert.equal(
      groupUsage(rows, by).reduce((sum, { requests }) => sum + requests, 0),
      7,
    );
});

test('usage by key and day, as comma-separated values', () => {
  const row = (hour: number, tenant: string): UsageRow => ({ hour, tenant, keyId: 'k', ...noUsage(), requests: 1 });
  const rows = [row(23, 'a"b'), row(24, 'a"b'), row(25, 'a"b')];
  assert.deepEqual(usageCsv(groupUsage(rows, ['key', 'day']), ['key', 'day']), [
    'day,tenant,key,requests,input_tokens,input_cached_tokens,output_tokens,reasoning_tokens,expert_ms\r',
    '1970-01-01,"a""b",k,1,0,0,0,0,0\r',
    '1970-01-02,"a""b",k,2,0,0,0,0,0\r',
  ]);
  assert.deepEqual(usageCsv([], []).length, 1);
});

test('a key is rotated: settings and lifetime go over, the old one ends', async () => {
  const settings = ['--tenant', 'rotating', '--model', 'tiny', '--label', 'team=blue', '--label', 'env=ci'];
  const [old] = await json('keys', 'create', ...settings, '--expires', '30d');
  const id = old?.id ?? '';
  const [next] = await json('keys', 'rotate', id, '--grace', '1h');
  assert.match(next?.key ?? '', /^gh_/);
  assert.notEqual(next?.id, id);
  assert.deepEqual([next?.tenant, next?.models, next?.['labels']], ['rotating', ['tiny'], { team: 'blue', env: 'ci' }]);
  const days = (time: unknown): number => Math.round((Date.parse(String(time)) - Date.now()) / 86_400_000);
  assert.equal(days(next?.['expires']), 30);
  const [ending] = await json('keys', 'show', id);
  const left = Date.parse(String(ending?.['expires'])) - Date.now();
  assert.ok(left > 0 && left <= 3_600_000, String(left));
  const [gone] = await json('keys', 'rotate', next?.id ?? '', '--grace', '0m');
  assert.equal((await accounts.keys.read(next?.id ?? ''))?.hash, null);
  assert.match((await run('keys', 'rotate', next?.id ?? '')).stderr, /is revoked/);
  const [changed] = await json('keys', 'change', gone?.id ?? '', '--label', 'env=', '--label', 'team=red');
  assert.deepEqual(changed?.['labels'], { team: 'red' });
  assert.deepEqual(
    (await json('keys', 'list', '--label', 'team=red')).map((one) => one.id),
    [gone?.id],
  );
  assert.match((await run('keys', 'create', '--label', 'no value')).stderr, /expected NAME=VALUE/);
});

test('values of options are read', () => {
  assert.deepEqual(['1', 'none', '1000000000'].map(limitValue), [1, 'none', 1_000_000_000]);
  for (const text of ['0', '-1', '1.5', 'x', '', '1000000001', '1e3']) assert.throws(() => limitValue(text), text);
  assert.deepEqual(['-100', '0', '100'].map(priorityValue), [-100, 0, 100]);
  for (const text of ['-101', '101', '1.5', '']) assert.throws(() => priorityValue(text), text);
  assert.deepEqual(['90m', '12h', '30d', '5w', 'x'].map(durationMs), [
    5_400_000,
    43_200_000,
    2_592_000_000,
    null,
    null,
  ]);
});
