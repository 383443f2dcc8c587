import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createMetrics } from '@guildhall/common';
import { DispatchMetrics } from './metrics.ts';

test('workers that come and go under new names leave no series behind', async () => {
  const metrics = createMetrics('router');
  const dispatch = new DispatchMetrics(metrics);
  const series = async (): Promise<number> => {
    await new Promise((resolve) => setImmediate(resolve));
    const { body } = await metrics.render();
    return body.split('\n').filter((line) => line.includes('worker="')).length;
  };
  const work = (worker: string): void => {
    for (const status of ['ok', 'busy', 'lost', 'not_held']) dispatch.message(worker, status);
    dispatch.bytes(worker, 'sent', 10);
    dispatch.bytes(worker, 'received', 10);
    dispatch.rows(worker, 4);
    dispatch.late(worker);
    dispatch.breaker(worker, true);
  };
  work('expert-0');
  const one = await series();
  assert.equal(one, 9);
  for (let number = 1; number <= 200; number++) {
    work(`expert-${number}`);
    dispatch.gone(`expert-${number - 1}`);
    dispatch.sweep();
  }
  assert.equal(await series(), one);
});
