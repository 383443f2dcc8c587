import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { OrderedSet } from './ordered-set.ts';

test('property: it is a sorted list without doubles', () => {
  const action = fc.record({ kind: fc.constantFrom('add', 'delete', 'has'), value: fc.nat(40) });
  fc.assert(
    fc.property(fc.array(action, { maxLength: 200 }), (actions) => {
      const set = new OrderedSet<number>((a, b) => b - a);
      const model = new Set<number>();
      for (const { kind, value } of actions) {
        if (kind === 'add') assert.equal(set.add(value), !model.has(value));
        else if (kind === 'delete') assert.equal(set.delete(value), model.has(value));
        else assert.equal(set.has(value), model.has(value));
        if (kind === 'add') model.add(value);
        if (kind === 'delete') model.delete(value);
        const sorted = [...model].sort((a, b) => b - a);
        assert.deepEqual([...set], sorted);
        assert.equal(set.first(), sorted[0]);
        assert.equal(set.last(), sorted.at(-1));
        assert.equal(set.size, sorted.length);
      }
    }),
  );
});

test('ascending and descending arrival keep it flat enough for 100,000 items', () => {
  let compared = 0;
  const set = new OrderedSet<number>((a, b) => {
    compared += 1;
    return a - b;
  });
  const half = 50_000;
  for (let i = 0; i < half; i++) set.add(i);
  for (let i = 0; i < half; i++) set.add(-1 - i);
  compared = 0;
  for (let i = 0; i < 1000; i++) assert.ok(set.delete(i * 37));
  // Twice log2(n) is 34; a list would need thousands.
  assert.ok(compared / 1000 < 80, `${compared / 1000} comparisons for each`);
});
