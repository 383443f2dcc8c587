import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock, systemClock } from './clock.ts';

test('timers fire in order of time, then of creation, at their own times', async () => {
  const clock = new FakeClock(1000);
  const seen: [string, number][] = [];
  const note = (name: string) => () => void seen.push([name, clock.nowMs()]);
  clock.setTimer(30, note('c'));
  clock.setTimer(10, note('a'));
  clock.setTimer(10, note('b'));
  clock.setTimer(99, note('late'));
  await clock.advance(50);
  assert.deepEqual(seen, [
    ['a', 1010],
    ['b', 1010],
    ['c', 1030],
  ]);
  assert.equal(clock.nowMs(), 1050);
  assert.equal(clock.pending, 1);
});

test('an interval repeats until cancelled', async () => {
  const clock = new FakeClock();
  let count = 0;
  const timer = clock.setInterval(10, () => {
    count += 1;
    if (count === 3) timer.cancel();
  });
  await clock.advance(1000);
  assert.equal(count, 3);
  assert.equal(clock.pending, 0);
});

test('promises that a timer resolves run before the next timer', async () => {
  const clock = new FakeClock();
  const seen: string[] = [];
  const work = clock.sleep(10).then(() => void seen.push('slept'));
  clock.setTimer(20, () => void seen.push('timer'));
  await clock.advance(20);
  await work;
  assert.deepEqual(seen, ['slept', 'timer']);
});

for (const [name, make] of [
  ['fake', () => new FakeClock()],
  ['system', () => systemClock],
] as const) {
  test(`sleep of the ${name} clock rejects as cancelled and leaves no timer`, async () => {
    const clock = make();
    const abort = new AbortController();
    const sleep = clock.sleep(60_000, abort.signal);
    abort.abort();
    await assert.rejects(sleep, { code: 'cancelled' });
    await assert.rejects(clock.sleep(60_000, abort.signal), { code: 'cancelled' });
    if (clock instanceof FakeClock) assert.equal(clock.pending, 0);
  });
}

test('the system clock fires timers and cancels them', async () => {
  const fired = await new Promise((resolve) => {
    const never = systemClock.setTimer(1, () => resolve('cancelled one'));
    never.cancel();
    const keepAlive = setInterval(() => undefined, 1000);
    systemClock.setTimer(5, () => {
      clearInterval(keepAlive);
      resolve('right one');
    });
  });
  assert.equal(fired, 'right one');
  assert.ok(systemClock.nowMs() > 1_700_000_000_000);
});
