import assert from 'node:assert/strict';
import { test } from 'node:test';
import { afterFault, afterLoss, CLEAN, type History, withFault, withLoss } from './suspects.ts';

function faulty(...ids: string[]): History {
  return ids.reduce((history, id) => withFault(history, { id, isFallback: false }, 'failed'), CLEAN);
}

function lost(...alone: boolean[]): History {
  return alone.reduce((history, isAlone) => withLoss(history, 'a', 'cut', isAlone), CLEAN);
}

const yes = (): boolean => true;
const no = (): boolean => false;

test('one fault is tried elsewhere, two split the rows by sequence, and two of one sequence condemn it', () => {
  assert.equal(afterFault(faulty('a'), 8, yes, yes), 'retry');
  assert.equal(afterFault(faulty('a'), 1, yes, yes), 'retry');
  assert.equal(afterFault(faulty('a', 'b'), 8, yes, yes), 'split');
  assert.equal(afterFault(faulty('a', 'b'), 1, yes, yes), 'convict');
  assert.equal(afterFault(faulty('a', 'a'), 1, yes, yes), 'convict');
});

test('nothing is condemned by workers of which none works, or soon by those that computed nothing else', () => {
  const onlyB = (worker: string): boolean => worker === 'b';
  assert.equal(afterFault(faulty('a', 'b'), 1, no, yes), 'retry');
  assert.equal(afterFault(faulty('a', 'b'), 1, onlyB, onlyB), 'convict');
  assert.equal(afterFault(faulty('a', 'b', 'a'), 1, yes, no), 'retry');
  assert.equal(afterFault(faulty('a', 'b', 'a', 'b'), 1, yes, no), 'convict');
  assert.equal(afterFault(faulty('a', 'b', 'a', 'b'), 1, no, no), 'retry');
});

test('lost streams condemn a sequence when it was alone on one of three, or on six at all', () => {
  assert.equal(afterLoss(lost(true), 1), 'retry');
  assert.equal(afterLoss(lost(false, false), 8), 'isolate');
  assert.equal(afterLoss(lost(true, true), 1), 'isolate');
  assert.equal(afterLoss(lost(false, false, false), 1), 'isolate');
  assert.equal(afterLoss(lost(false, false, true), 1), 'convict');
  assert.equal(afterLoss(lost(false, false, false, false, false, false), 1), 'convict');
});

test('what this process fails on is no fault of the rows', () => {
  const history = withFault(faulty('a'), { id: 'router', isFallback: true }, 'has no memory');
  assert.deepEqual(history.faults, ['a']);
  assert.equal(history.noFallback, true);
  assert.match(history.lastReason, /router has no memory/);
});
