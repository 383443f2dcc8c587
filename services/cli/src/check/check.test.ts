import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { freePort } from '@guildhall/common/testing';
import { GatewayUnderTest, tokensOf } from '../../../gateway/src/testing/gateway-under-test.ts';
import { PlacedCluster, type Run } from '../testing/placed-cluster.ts';
import { coverageOf, coverageProblem } from './coverage.ts';
import type { CheckResult } from './run-checks.ts';

const KEY = 'check-secret-key';
let placed: PlacedCluster;
let gateway: GatewayUnderTest;
/** What the router answers. */
let answer: readonly number[] = [];

before(async () => {
  const hello = await tokensOf('x</think>Hello there');
  answer = hello;
  placed = await PlacedCluster.start(1);
  gateway = await GatewayUnderTest.start({ apiKey: [KEY] }, { script: () => ({ tokens: answer }) });
});
after(async () => {
  await gateway.stop();
  await placed.stop();
});

function check(...args: string[]): Promise<Run> {
  return placed.run('check', '--url', gateway.url, '--api-key', KEY, ...args).end;
}

function resultsOf({ stdout, stderr }: Run): { ok: boolean; checks: CheckResult[] } {
  assert.notEqual(stdout, '', stderr);
  return JSON.parse(stdout) as { ok: boolean; checks: CheckResult[] };
}

test('a gateway that answers passes, with what it answered, for people and for programs', async () => {
  const text = await check();
  assert.equal(text.code, 0, text.stderr);
  assert.match(text.stdout, /ok +ready/);
  assert.match(text.stdout, /ok +completion +\d+ +tiny streamed \d+ tokens and ended by "stop"/);
  const { ok, checks } = resultsOf(await check('--json', '--url', `${gateway.url}/v1/`));
  assert.equal(ok, true);
  assert.deepEqual(
    checks.map(({ name }) => name),
    ['ready', 'completion'],
  );
});

test('experts without a live worker fail the check, which waits for them first', async () => {
  const cluster = ['--redis', placed.redis.url, '--cluster', 'test'];
  const before = resultsOf(await check('--json', '--timeout', '3', ...cluster));
  assert.deepEqual([before.ok, before.checks.at(-1)?.name], [false, 'coverage']);
  assert.match(before.checks.at(-1)?.found ?? '', /no placement yet/);
  const waiting = placed.run('check', '--url', gateway.url, '--api-key', KEY, '--json', ...cluster);
  const worker = await placed.worker('expert-1');
  const { ok, checks } = resultsOf(await waiting.end);
  assert.equal(ok, true);
  assert.match(checks.at(-1)?.found ?? '', /epoch 1: 16 experts on 1 live workers/);
  await worker.lease.leave();
  const lost = await check('--timeout', '3', ...cluster);
  assert.equal(lost.code, 1);
  assert.match(lost.stdout, /FAILED +coverage +\d+ +16 of 16 experts have no live worker: 0\/0, 0\/1/);
});

test('an answer without text, a wrong key and nobody at all fail within the time, with the reason', async () => {
  const good = answer;
  answer = await tokensOf('</think>');
  const empty = resultsOf(await check('--json', '--timeout', '3'));
  answer = good;
  assert.match(empty.checks.at(-1)?.found ?? '', /the answer came without text/);
  const stranger = await placed.run('check', '--url', gateway.url, '--api-key', 'wrong-key', '--timeout', '2').end;
  assert.equal(stranger.code, 1);
  assert.match(stranger.stdout, /FAILED +completion.*answered 401/);
  const nobody = await placed.run('check', '--url', `http://127.0.0.1:${await freePort()}`, '--timeout', '2').end;
  assert.equal(nobody.code, 1);
  assert.match(nobody.stdout, /FAILED +ready.*ECONNREFUSED/);
  const nonsense = await placed.run('check', '--url', 'nowhere').end;
  assert.match(nonsense.stderr, /--url: expected http/);
});

test('what Redis said before it went away is no coverage', () => {
  const facts = coverageOf({ members: [], placement: null, stale: true });
  assert.equal(coverageProblem(facts), 'Redis does not answer');
});
