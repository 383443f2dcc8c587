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

test('a run that is asked for begins after the question, whatever runs already', async () => {
  const clock = new FakeClock();
  let begun = 0;
  let ended = 0;
  const poller = new Poller(clock, 1000, async () => {
    begun += 1;
    await clock.sleep(10);
    ended += 1;
  });
  await poller.run();
  assert.equal(begun, 0, 'not before it was started');
  void poller.start();
  const asked = poller.run();
  assert.equal(begun, 1);
  await clock.advance(50);
  await asked;
  assert.deepEqual([begun, ended], [2, 2]);
  const stopped = poller.stop();
  await clock.advance(1000);
  await stopped;
});
