import assert from 'node:assert/strict';
import { test } from 'node:test';
import { balancedPacking, eplb, replicateExperts } from './eplb.ts';

test('the published example of EPLB comes out as published', () => {
  const loads = [
    [90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86],
    [20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27],
  ];
  assert.deepEqual(
    loads.map((layer) => eplb(layer, { replicas: 16, groups: 4, nodes: 2, gpus: 8 })),
    [
      [5, 6, 5, 7, 8, 4, 3, 4, 10, 9, 10, 2, 0, 1, 11, 1],
      [7, 10, 6, 8, 6, 11, 8, 9, 2, 4, 5, 1, 5, 0, 3, 1],
    ],
  );
});

test('groups that do not divide by the nodes are packed as one', () => {
  const loads = [8, 1, 1, 1, 1, 4];
  const global = eplb(loads, { replicas: 8, groups: 1, nodes: 1, gpus: 4 });
  assert.deepEqual(eplb(loads, { replicas: 8, groups: 3, nodes: 2, gpus: 4 }), global);
  assert.notDeepEqual(eplb(loads, { replicas: 8, groups: 2, nodes: 2, gpus: 4 }), global);
});

test('each next replica goes to the largest load per replica, the first of equals', () => {
  assert.deepEqual(replicateExperts([6, 6, 1], 7), [0, 1, 2, 0, 1, 0, 1]);
});

test('packs get equal counts, the heaviest item first, each into the lightest pack', () => {
  assert.deepEqual(balancedPacking([1, 5, 3, 4], 2), [
    [1, 0],
    [3, 2],
  ]);
  assert.deepEqual(balancedPacking([1, 5, 3], 3), [[0], [1], [2]]);
});
