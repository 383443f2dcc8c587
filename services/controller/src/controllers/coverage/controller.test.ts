import assert from 'node:assert/strict';
import { test } from 'node:test';
import { everyLayer, liveOf } from '../../testing/live.ts';
import { CoverageController, coverageOf, leastCopiesOf } from './controller.ts';

const low = { id: 'e1', holdings: everyLayer(0, 1, 2, 3) };
const high = { id: 'e2', holdings: everyLayer(4, 5, 6, 7) };

test('coverage is the share of the experts that somebody holds', () => {
  assert.equal(coverageOf([]), 0);
  assert.equal(coverageOf(liveOf([{ id: 'e1' }]).workers), 0);
  assert.equal(coverageOf(liveOf([low, { ...low, id: 'e3' }]).workers), 0.5);
  assert.equal(coverageOf(liveOf([low, high]).workers), 1);
});

test('copies are counted for the expert with the fewest', () => {
  assert.equal(leastCopiesOf([]), 0);
  assert.equal(leastCopiesOf(liveOf([low]).workers), 0);
  assert.equal(leastCopiesOf(liveOf([low, high]).workers), 1);
  assert.equal(leastCopiesOf(liveOf([low, high, { ...low, id: 'e3' }]).workers), 1);
  assert.equal(
    leastCopiesOf(liveOf([low, high, { id: 'e3', holdings: everyLayer(0, 1, 2, 3, 4, 5, 6, 7) }]).workers),
    2,
  );
});

test('a loss is told when it happens, and the recovery when all are back', () => {
  const told: string[] = [];
  const controller = new CoverageController((kind, message) => void told.push(`${kind}: ${message}`));
  const look = (...workers: (typeof low)[]): number => controller.reconcile(liveOf(workers).workers);
  look();
  look(low);
  assert.deepEqual(told, []);
  look(low, high);
  look(low, high);
  look(low);
  look();
  look(low);
  assert.equal(look(low, high), 1);
  assert.deepEqual(told, [
    'experts_recovered: every expert has a live holder',
    'experts_lost: 50.0 % of the experts have no live holder',
    'experts_recovered: every expert has a live holder',
  ]);
});
