import assert from 'node:assert/strict';
import { test } from 'node:test';
import { control } from '@guildhall/proto';
import { readAssignment } from './placement.ts';

function placement(change: Partial<control.Placement> = {}): Uint8Array {
  return control.Placement.encode({
    epoch: 3n,
    modelFingerprint: 'f',
    numericsId: 'n',
    workers: ['a', 'b'],
    layers: [
      { layer: 0, counts: [1, 2, 1], workers: [0, 0, 1, 1] },
      { layer: 1, counts: [1, 1, 1], workers: [1, 1, 1] },
    ],
    reason: '',
    createdMs: 0n,
    predicted: undefined,
    ...change,
  }).finish();
}

const plain = (bytes: Uint8Array, id: string): [number, number[]][] =>
  [...readAssignment(bytes, id).experts].map(([layer, experts]) => [layer, [...experts]]);

test('a worker finds its experts, replicas included', () => {
  assert.deepEqual(plain(placement(), 'a'), [[0, [0, 1]]]);
  assert.deepEqual(plain(placement(), 'b'), [
    [0, [1, 2]],
    [1, [0, 1, 2]],
  ]);
  assert.equal(readAssignment(placement(), 'a').epoch, 3);
});

test('a worker that is not named has nothing', () => {
  assert.deepEqual(plain(placement(), 'c'), []);
});

test('a placement that does not add up is refused', () => {
  for (const layers of [
    [{ layer: 0, counts: [1, 2], workers: [0, 1] }],
    [{ layer: 0, counts: [1], workers: [0, 1] }],
    [{ layer: 0, counts: [1], workers: [2] }],
  ]) {
    assert.throws(() => readAssignment(placement({ layers }), 'a'), { code: 'integrity' });
  }
  assert.throws(() => readAssignment(Buffer.from([0xff, 0xff]), 'a'), { code: 'integrity' });
});
