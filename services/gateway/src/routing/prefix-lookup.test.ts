import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createMetrics, fail, FakeClock } from '@guildhall/common';
import { silentLogger } from '@guildhall/common/testing';
import { FakeDirectory } from '../../../../test/fakes/fake-directory.ts';
import { PrefillBacklog } from './prefill-backlog.ts';
import { PrefixLookup } from './prefix-lookup.ts';
import { namePages, reusablePages } from './prompt-names.ts';

const SPACE = { fingerprint: 'f', numericsId: 'n', pageTokens: 64, salt: '', adapter: '' };
const PROMPT = Array.from({ length: 400 }, (_, i) => i);

async function makeLookup() {
  const clock = new FakeClock();
  const directory = new FakeDirectory();
  const metrics = createMetrics('gateway');
  const lookup = new PrefixLookup({ directory, clock, logger: silentLogger(), metrics, timeoutMs: 25 });
  const names = await namePages(SPACE, PROMPT);
  const find = (worthMs = 0) => lookup.find({ names, stateless: false, worthMs });
  /** Time passes until the answer is there. */
  const late = async () => {
    const answer = find();
    await clock.advance(25);
    return answer;
  };
  const outcomes = async (outcome: string): Promise<number> => {
    const { body } = await metrics.render();
    return Number(new RegExp(`lookups_total\\{outcome="${outcome}"\\} (\\d+)`).exec(body)?.[1] ?? 0);
  };
  return { clock, directory, lookup, find, late, outcomes };
}

test('an answer in time is used', async () => {
  const { directory, find, outcomes, clock } = await makeLookup();
  assert.deepEqual(await find(), { holdings: [] });
  directory.add('router-1', SPACE, PROMPT, 4);
  const answer = await find();
  assert.ok('holdings' in answer);
  assert.deepEqual(
    answer.holdings.map(({ router, pages, resumePages }) => [router, pages, resumePages]),
    [['router-1', 4, 4]],
  );
  assert.deepEqual([await outcomes('miss'), await outcomes('hit')], [1, 1]);
  assert.equal(clock.pending, 0);
});

test('a directory that is away opens the breaker at once, and its return closes it without anybody waiting', async () => {
  const { directory, lookup, find, outcomes, clock } = await makeLookup();
  directory.failure = fail('redis_unavailable', 'gone');
  assert.deepEqual(await find(), { failed: 'away' });
  assert.equal(lookup.open, true);
  for (let i = 0; i < 5; i += 1) assert.deepEqual(await find(), { failed: 'away' });
  assert.equal(directory.lookups.length, 1);
  await clock.advance(250);
  assert.deepEqual(await find(), { failed: 'away' });
  await clock.advance(0);
  assert.equal(directory.lookups.length, 2, 'one request asks in the background');
  directory.failure = null;
  await clock.advance(499);
  assert.deepEqual(await find(), { failed: 'away' });
  assert.equal(directory.lookups.length, 2, 'the pause has doubled');
  await clock.advance(1);
  assert.deepEqual(await find(), { failed: 'away' });
  await clock.advance(0);
  assert.equal(lookup.open, false);
  assert.deepEqual(await find(), { holdings: [] });
  assert.equal(await outcomes('skipped'), 8);
});

test('a directory that is slow opens it after a few late answers, and one late answer alone does not', async () => {
  const { directory, lookup, find, late, clock } = await makeLookup();
  directory.hang();
  assert.deepEqual(await late(), { failed: 'slow' });
  directory.release();
  assert.deepEqual(await find(), { holdings: [] });
  directory.hang();
  for (let i = 0; i < 3; i += 1) {
    assert.equal(lookup.open, false);
    assert.deepEqual(await late(), { failed: 'slow' });
  }
  assert.equal(lookup.open, true);
  const asked = directory.lookups.length;
  assert.deepEqual(await find(), { failed: 'slow' });
  await clock.advance(250);
  assert.deepEqual(await find(), { failed: 'slow' });
  assert.deepEqual(await find(), { failed: 'slow' });
  assert.equal(directory.lookups.length, asked + 1, 'one probe at a time');
  await clock.advance(25);
  assert.equal(lookup.open, true);
  directory.release();
  await clock.advance(500);
  await find();
  await clock.advance(0);
  assert.equal(lookup.open, false);
});

test('a burst waits its turn, and those whose time is up before say nothing of Redis', async () => {
  const { directory, lookup, find, clock } = await makeLookup();
  directory.hang();
  const burst = Array.from({ length: 100 }, () => find());
  await clock.advance(0);
  assert.equal(directory.lookups.length, 32);
  directory.release();
  assert.ok((await Promise.all(burst)).every((answer) => 'holdings' in answer));
  assert.equal(directory.lookups.length, 100);
  directory.hang();
  const late = Array.from({ length: 100 }, () => find());
  await clock.advance(25);
  assert.ok((await Promise.all(late)).every((answer) => 'failed' in answer && answer.failed === 'slow'));
  assert.equal(directory.lookups.length, 132, 'those that never had their turn are not asked later');
  directory.release();
  await clock.advance(10_000);
  await find();
  await clock.advance(0);
  assert.equal(lookup.open, false);
  assert.deepEqual(await find(), { holdings: [] });
});

test('a prompt that takes long to compute waits longer for what could spare it, up to a limit', async () => {
  const { directory, find, clock } = await makeLookup();
  directory.hang();
  let answered = 0;
  void find(5000).then(() => (answered += 1));
  await clock.advance(99);
  assert.equal(answered, 0);
  await clock.advance(1);
  await clock.advance(0);
  assert.equal(answered, 1);
  void find(1e6).then(() => (answered += 1));
  await clock.advance(249);
  assert.equal(answered, 1);
  await clock.advance(1);
  await clock.advance(0);
  assert.equal(answered, 2);
});

test('requests that fail together lengthen the pause once', async () => {
  const { directory, lookup, find, clock } = await makeLookup();
  directory.failure = fail('redis_unavailable', 'gone');
  await Promise.all(Array.from({ length: 50 }, () => find()));
  directory.failure = null;
  await clock.advance(250);
  await find();
  await clock.advance(0);
  assert.equal(lookup.open, false);
});

test('pages of a prompt are named but for the one that its last token needs', async () => {
  assert.deepEqual(
    [1, 64, 65, 128, 129].map((tokens) => reusablePages(tokens, 64)),
    [0, 0, 1, 1, 2],
  );
  assert.equal(reusablePages(1000, 0), 0);
  const long = Array.from({ length: 262_144 }, (_, i) => i % 1000);
  let turns = 0;
  const timer = setInterval(() => (turns += 1), 0);
  const names = await namePages(SPACE, long);
  clearInterval(timer);
  assert.equal(names.length, 4095);
  assert.equal(new Set(names).size, 4095);
  assert.ok(turns > 1, 'others had their turns');
  assert.notEqual((await namePages({ ...SPACE, salt: 'x' }, PROMPT))[0], (await namePages(SPACE, PROMPT))[0]);
});

test('a backlog shrinks at the measured rate between reports, and by what is known to be done', async () => {
  const clock = new FakeClock();
  const backlog = new PrefillBacklog(clock);
  backlog.report(1000, 2);
  await clock.advance(500);
  assert.equal(backlog.tokens, 750);
  const first = backlog.add(250);
  const second = backlog.add(200);
  assert.equal(backlog.tokens, 1200);
  backlog.remove(second);
  await clock.advance(600);
  assert.equal(backlog.tokens, 700);
  const third = backlog.add(40);
  backlog.done(first);
  assert.equal(backlog.tokens, 240);
  backlog.done(third);
  assert.equal(backlog.tokens, 0);
  const old = backlog.add(100);
  backlog.report(500, 2);
  backlog.done(old);
  backlog.remove(old);
  assert.equal(backlog.tokens, 500);
  await clock.advance(10_000);
  assert.equal(backlog.tokens, 0);
});
