import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '@guildhall/common';
import { Breakers } from './breaker.ts';
import { seededRandom } from './random.ts';

function setUp(): { clock: FakeClock; breakers: Breakers; changes: string[] } {
  const clock = new FakeClock();
  const changes: string[] = [];
  const onChange = (worker: string, state: string, outcome: string) =>
    void changes.push(`${worker} ${state} ${outcome}`);
  return { clock, changes, breakers: new Breakers({ clock, random: seededRandom(3), onChange }) };
}

test('five faults in a row open it, a good answer between them does not let them add up', () => {
  const { breakers, changes } = setUp();
  for (let i = 0; i < 4; i++) breakers.record('a', 'fault');
  breakers.record('a', 'ok');
  for (let i = 0; i < 4; i++) breakers.record('a', 'fault');
  assert.equal(breakers.state('a'), 'closed');
  for (const outcome of ['busy', 'not-held'] as const) breakers.record('a', outcome);
  assert.equal(breakers.state('a'), 'closed');
  breakers.record('a', 'fault');
  assert.equal(breakers.state('a'), 'open');
  assert.equal(breakers.state('b'), 'closed');
  assert.deepEqual(changes, ['a open fault']);
});

test('three late answers open it', () => {
  const { breakers } = setUp();
  for (let i = 0; i < 2; i++) breakers.record('a', 'late');
  assert.equal(breakers.state('a'), 'closed');
  breakers.record('a', 'late');
  assert.equal(breakers.state('a'), 'open');
});

test('the calls that one lost stream takes along are one loss', async () => {
  const { clock, breakers } = setUp();
  for (let i = 0; i < 20; i++) breakers.record('a', 'lost');
  assert.equal(breakers.state('a'), 'closed');
  for (let i = 0; i < 4; i++) {
    await clock.advance(50);
    breakers.record('a', 'lost');
  }
  assert.equal(breakers.state('a'), 'open');
});

test('it is probed ever more rarely, and closes on the first good answer', async () => {
  const { clock, breakers, changes } = setUp();
  for (let i = 0; i < 5; i++) breakers.record('a', 'fault');
  const waits: number[] = [];
  for (let probe = 0; probe < 10; probe++) {
    const begun = clock.monotonicMs();
    while (breakers.state('a') !== 'probing') await clock.advance(10);
    waits.push(clock.monotonicMs() - begun);
    breakers.probed('a');
    assert.equal(breakers.state('a'), 'open');
    breakers.record('a', 'fault');
  }
  for (const [i, wait] of waits.entries()) {
    const longest = Math.min(30_000, 250 * 2 ** i);
    assert.ok(wait >= longest / 2 && wait <= longest + 10, `wait ${i} was ${wait}`);
  }
  breakers.record('a', 'ok');
  assert.equal(breakers.state('a'), 'closed');
  assert.deepEqual(changes, ['a open fault', 'a closed ok']);
});

test('a worker that is forgotten begins anew', () => {
  const { breakers } = setUp();
  for (let i = 0; i < 5; i++) breakers.record('a', 'fault');
  breakers.forget('a');
  assert.equal(breakers.state('a'), 'closed');
});
