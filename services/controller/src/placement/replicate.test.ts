import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { replicate } from './replicate.ts';

/** The same without a heap. */
function plainly(loads: readonly number[], copies: Int32Array, budget: number, most: number, enough: number): void {
  for (let left = budget; left > 0; left--) {
    let best = -1;
    for (const [expert, load] of loads.entries()) {
      const each = load / (copies[expert] as number);
      if ((copies[expert] as number) >= most || each <= enough) continue;
      if (best === -1 || each > (loads[best] as number) / (copies[best] as number)) best = expert;
    }
    if (best === -1) return;
    copies[best] = (copies[best] as number) + 1;
  }
}

test('replicas go where the load per copy is largest, within their bounds', () => {
  const sizes = fc.record({
    loads: fc.array(fc.nat(30), { minLength: 1, maxLength: 12 }),
    budget: fc.nat(30),
    most: fc.integer({ min: 1, max: 6 }),
    enough: fc.integer({ min: 0, max: 9 }),
  });
  fc.assert(
    fc.property(sizes, ({ loads, budget, most, enough }) => {
      const copies = new Int32Array(loads.length).fill(1);
      const expected = copies.slice();
      replicate(loads, copies, { budget, most, enough });
      plainly(loads, expected, budget, most, enough);
      assert.deepEqual(copies, expected);
    }),
    { numRuns: 300, seed: 1 },
  );
});
