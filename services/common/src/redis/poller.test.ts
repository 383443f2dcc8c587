import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '../clock.ts';
import { Poller } from './poller.ts';

test('runs at the start, at every interval and when poked; pokes during a run make one more', async () => {
  const clock = new FakeClock();
  let runs = 0;
  let active = 0;
  const poller = new Poller(clock, 100, async () => {
    active += 1;
    assert.equal(active, 1, 'never two at a time');
    await clock.sleep(10);
    runs += 1;
    active -= 1;
  });
  const started = poller.start();
  await clock.advance(10);
  await started;
  assert.equal(runs, 1);
  await clock.advance(110);
  assert.equal(runs, 2);
  poller.poke();
  poller.poke();
  poller.poke();
  await clock.advance(50);
  assert.equal(runs, 4);
  const stopped = poller.stop();
  await clock.advance(1000);
  await stopped;
  poller.poke();
  await clock.advance(1000);
  assert.equal(runs, 4);
  assert.equal(clock.pending, 0);
});
