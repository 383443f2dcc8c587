import assert from 'node:assert/strict';
import { test } from 'node:test';
import { diffAssignments } from './diff.ts';

test('the first placement loads everything', () => {
  assert.deepEqual(diffAssignments(null, { workers: ['a', 'b'], holders: [[[0], [0, 1]]] }), { loads: 3, drops: 0 });
});

test('workers are told apart by their ids, not by their numbers', () => {
  const before = { workers: ['a', 'b'], holders: [[[0], [1], [0, 1]]] };
  const after = { workers: ['b', 'c'], holders: [[[0], [0], [0, 1]]] };
  // b gets the first expert and c the last; a loses both.
  assert.deepEqual(diffAssignments(before, after), { loads: 2, drops: 2 });
});
