import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { assertFails } from '../testing/errors.ts';
import { planMessages, type PlanInput } from './plan.ts';

const WEIGHTS = Float32Array.of(0.5, 0.25, 0.125, 0.75, 0.0625, 0.1875);
const BASE: PlanInput = {
  topkIds: Int32Array.of(7, 2, 4, 1, 9, 4),
  topkWeights: WEIGHTS,
  numTokens: 2,
  topK: 3,
  rowBytes: 64,
  mode: 'exact',
  maxMessageBytes: 4096,
};

test('entries are ascending within their row and know their slot and weight', () => {
  const [message, ...rest] = planMessages(BASE);
  assert.deepEqual(rest, []);
  assert.deepEqual(message, {
    rowIndex: Int32Array.of(0, 1),
    entryCount: Int32Array.of(3, 3),
    experts: Int32Array.of(2, 4, 7, 1, 4, 9),
    weights: Float32Array.of(0.25, 0.125, 0.5, 0.75, 0.1875, 0.0625),
    slots: Int32Array.of(1, 2, 0, 3, 5, 4),
  });
});

test('only the included entries and the rows that have some are sent', () => {
  const messages = planMessages({ ...BASE, include: (expert) => expert === 9 });
  assert.deepEqual(messages, [
    {
      rowIndex: Int32Array.of(1),
      entryCount: Int32Array.of(1),
      experts: Int32Array.of(9),
      weights: WEIGHTS.subarray(4, 5),
      slots: Int32Array.of(4),
    },
  ]);
  assert.deepEqual(planMessages({ ...BASE, include: () => false }), []);
  assert.deepEqual(planMessages({ ...BASE, numTokens: 0 }), []);
  const bySlot = planMessages({ ...BASE, include: (_, slot) => slot === 5 });
  assert.deepEqual(bySlot[0]?.slots, Int32Array.of(5));
});

test('every included entry travels once, and no message or reply passes the limit', () => {
  const shape = fc.record({
    numTokens: fc.nat(40),
    topK: fc.integer({ min: 1, max: 10 }),
    rowBytes: fc.integer({ min: 4, max: 300 }),
    maxMessageBytes: fc.integer({ min: 600, max: 5000 }),
    mode: fc.constantFrom('exact' as const, 'partial' as const),
    seed: fc.nat(),
    holders: fc.integer({ min: 1, max: 4 }),
  });
  fc.assert(
    fc.property(shape, ({ numTokens, topK, rowBytes, maxMessageBytes, mode, seed, holders }) => {
      const topkIds = Int32Array.from(
        { length: numTokens * topK },
        (_, i) => (i % topK) * 31 + ((seed + i * 7919) % 31),
      );
      const topkWeights = Float32Array.from(topkIds, (_, i) => i / 7);
      const seen = new Set<number>();
      for (let holder = 0; holder < holders; holder++) {
        const include = (expert: number): boolean => expert % holders === holder;
        const plan = planMessages({ topkIds, topkWeights, numTokens, topK, rowBytes, mode, maxMessageBytes, include });
        for (const { rowIndex, entryCount, experts, weights, slots } of plan) {
          const entries = slots.length;
          assert.ok(rowIndex.length * (rowBytes + 2) + entries * 6 <= maxMessageBytes - 128);
          assert.ok((mode === 'exact' ? entries : rowIndex.length) * rowBytes <= maxMessageBytes - 128);
          let entry = 0;
          for (const [r, token] of rowIndex.entries()) {
            assert.ok((entryCount[r] ?? 0) > 0);
            for (let n = 0; n < (entryCount[r] ?? 0); n++, entry++) {
              const slot = slots[entry] as number;
              assert.equal(Math.floor(slot / topK), token);
              assert.equal(experts[entry], topkIds[slot]);
              assert.equal(weights[entry], topkWeights[slot]);
              assert.ok(n === 0 || (experts[entry - 1] as number) < (experts[entry] as number));
              assert.ok(!seen.has(slot));
              seen.add(slot);
            }
          }
          assert.equal(entry, entries);
        }
      }
      assert.equal(seen.size, numTokens * topK);
    }),
    { numRuns: 500 },
  );
});

test('a row that does not fit any message is a configuration error', () => {
  assertFails(() => planMessages({ ...BASE, rowBytes: 4000 }), 'config_invalid', '4000', '4096');
});
