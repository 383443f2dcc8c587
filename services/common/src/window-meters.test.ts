import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FakeClock } from './clock.ts';
import { BusyMeter, WindowPercentile, WindowSum } from './window-meters.ts';

test('a window says how much came of late, and forgets', async () => {
  const clock = new FakeClock();
  const sum = new WindowSum(clock, 10_000);
  assert.equal(sum.known, false);
  for (let second = 0; second < 10; second += 1) {
    sum.add(5);
    await clock.advance(1000);
  }
  assert.equal(sum.known, true);
  assert.ok(Math.abs(sum.perMs * 1000 - 5) < 0.3, `${sum.perMs * 1000}`);
  await clock.advance(11_000);
  assert.equal(sum.perMs, 0);
});

test('work side by side counts once, and work that is not over counts already', async () => {
  const clock = new FakeClock();
  const busy = new BusyMeter(clock);
  assert.equal(busy.share, null, 'not measured is not idle');
  await clock.advance(5000);
  busy.begin();
  await clock.advance(1000);
  busy.begin();
  await clock.advance(1000);
  busy.end();
  await clock.advance(500);
  assert.ok(Math.abs((busy.share ?? 0) - 2.5 / 7.5) < 0.02, `${busy.share}`);
  busy.end();
  await clock.advance(60_000);
  assert.equal(busy.share, 0);
});

test('a share is between 0 and 1 whatever begins and ends', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(fc.constantFrom('begin', 'end'), fc.nat(2000))), async (steps) => {
      const clock = new FakeClock();
      const busy = new BusyMeter(clock);
      for (const [what, ms] of steps) {
        if (what === 'begin') busy.begin();
        else busy.end();
        await clock.advance(ms);
      }
      assert.ok(busy.share === null || (busy.share >= 0 && busy.share <= 1));
    }),
    { numRuns: 30 },
  );
});

test('a percentile is of the window, and absent where that is empty', async () => {
  const clock = new FakeClock();
  const values = new WindowPercentile(clock, 30_000);
  assert.equal(values.at(0.95), null);
  for (let value = 1; value <= 10_000; value += 1) values.add(value);
  assert.ok(Math.abs((values.at(0.95) ?? 0) - 9500) < 200, `${values.at(0.95)}`);
  await clock.advance(31_000);
  assert.equal(values.at(0.95), null);
});
