import assert from 'node:assert/strict';
import { test } from 'node:test';
import { StateSlots } from './state-slots.ts';

test('a slot has one owner', () => {
  const slots = new StateSlots(2);
  const a = slots.allocate('a');
  const b = slots.allocate('b');
  assert.notEqual(a, b);
  assert.equal(slots.can(), false);
  assert.throws(() => slots.allocate('c'), { code: 'integrity' });
  assert.throws(() => slots.free(a, 'b'), { code: 'integrity' });
  slots.free(a, 'a');
  assert.throws(() => slots.free(a, 'a'), { code: 'integrity' });
  assert.equal(slots.allocate('c'), a);
});

test('the integrity check finds lost and foreign slots', () => {
  const slots = new StateSlots(3);
  const slot = slots.allocate('a');
  assert.throws(() => slots.checkIntegrity([]), { code: 'integrity' });
  assert.throws(() => slots.checkIntegrity([{ owner: 'b', slot }]), { code: 'integrity' });
  slots.checkIntegrity([{ owner: 'a', slot }]);
});
