import assert from 'node:assert/strict';
import { test } from 'node:test';
import { FakeClock } from '@guildhall/common';
import { liveOf } from '../../testing/live.ts';
import type { TestWorker } from '../../testing/members.ts';
import { SpeedsController } from './controller.ts';

function speeds(controller: SpeedsController, ...workers: TestWorker[]): [string, number, number][] {
  const found = controller.reconcile(liveOf(workers).workers);
  return [...found].map(([id, { usPerRow, usPerMessage }]) => [id, usPerRow, usPerMessage]);
}

test('a worker that has not measured itself is taken for a middling one', () => {
  const controller = new SpeedsController(new FakeClock());
  const [[, alone]] = speeds(controller, { id: 'e1' }) as [[string, number, number]];
  assert.ok(alone > 0);
  const found = speeds(
    controller,
    { id: 'e1' },
    { id: 'e2', usPerRow: 10, usPerMessage: 100 },
    { id: 'e3', usPerRow: 30, usPerMessage: 300 },
    { id: 'e4', usPerRow: 20, usPerMessage: 400 },
    { id: 'e5', usPerRow: Number.NaN, usPerMessage: 1 },
  );
  assert.deepEqual(found, [
    ['e1', 20, 300],
    ['e2', 10, 100],
    ['e3', 30, 300],
    ['e4', 20, 400],
    ['e5', 20, 300],
  ]);
});

test('a new measurement is approached with time, and by another incarnation taken at once', async () => {
  const clock = new FakeClock();
  const controller = new SpeedsController(clock);
  speeds(controller, { id: 'e1', usPerRow: 10, usPerMessage: 100 });
  const jump = { id: 'e1', usPerRow: 20, usPerMessage: 100 };
  assert.deepEqual(speeds(controller, jump), [['e1', 10, 100]]);
  let last = 10;
  for (let second = 0; second < 30; second++) {
    await clock.advance(1000);
    const [[, now]] = speeds(controller, jump) as [[string, number, number]];
    assert.ok(now > last && now < 20);
    last = now;
  }
  assert.ok(Math.abs(last - (20 - 10 / Math.E)) < 1e-6, String(last));
  assert.deepEqual(speeds(controller, { ...jump, incarnation: 2n }), [['e1', 20, 100]]);
});
