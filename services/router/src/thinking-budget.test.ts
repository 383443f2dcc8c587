import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { ThinkingBudget, type ThinkingSpec } from './thinking-budget.ts';

const CLOSE = 9;

/** Tokens of an answer whose model says `wanted`, from `before` on. */
function generate(spec: ThinkingSpec, wanted: readonly number[], before: readonly number[] = []): number[] {
  const budget = new ThinkingBudget(spec);
  for (const id of before) budget.push(id);
  const ids = [...before];
  while (ids.length < wanted.length) {
    const id = budget.forcedId ?? (wanted[ids.length] as number);
    budget.push(id);
    ids.push(id);
  }
  return ids;
}

test('a block that uses up its budget is closed in the given words, and then the model goes on', () => {
  assert.deepEqual(generate({ tokens: 2, endIds: [7, 8, CLOSE] }, [1, 2, 3, 4, 5, 6, 1]), [1, 2, 7, 8, CLOSE, 6, 1]);
  assert.deepEqual(generate({ tokens: 0, endIds: [CLOSE] }, [1, 2]), [CLOSE, 2]);
});

test('a block that is closed in time is left alone, at the last token of the budget too', () => {
  assert.deepEqual(generate({ tokens: 3, endIds: [7, CLOSE] }, [1, 2, CLOSE, 4, 5, 6]), [1, 2, CLOSE, 4, 5, 6]);
  assert.deepEqual(generate({ tokens: 3, endIds: [7, CLOSE] }, [CLOSE, 2, 3, 4, 5]), [CLOSE, 2, 3, 4, 5]);
});

test('an end tag among the closing words does not end them', () => {
  assert.deepEqual(generate({ tokens: 1, endIds: [CLOSE, 7, CLOSE] }, [1, 2, 3, 4, 5]), [1, CLOSE, 7, CLOSE, 5]);
});

test('an answer that is broken off anywhere goes on as if it had not been', () => {
  const ids = fc.array(fc.integer({ min: 1, max: CLOSE }), { maxLength: 20 });
  const specs = fc.record({
    tokens: fc.nat(12),
    endIds: fc.array(fc.integer({ min: 1, max: CLOSE }), { maxLength: 4 }).map((some) => [...some, CLOSE]),
  });
  fc.assert(
    fc.property(specs, ids, fc.nat(20), (spec, wanted, place) => {
      const whole = generate(spec, wanted);
      assert.deepEqual(generate(spec, wanted, whole.slice(0, place)), whole);
      const inTime = whole.slice(0, spec.tokens + spec.endIds.length).includes(CLOSE);
      assert.ok(inTime || whole.length < spec.tokens + spec.endIds.length);
    }),
  );
});
