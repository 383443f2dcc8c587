import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { sequenceOf } from '../testing/sequences.ts';
import { StepCostModel } from './budget.ts';
import { choosePrefill, type PrefillLimits } from './prefill.ts';

const FREE: PrefillLimits = {
  maxTokens: 512,
  maxLogitRows: 64,
  maxSequences: 16,
  budgetMs: Infinity,
  cut: (_seq, chunk) => chunk,
};

test('a prompt alone takes the whole chunk, cut at a multiple of 64', () => {
  const seq = sequenceOf({ numPrompt: 1000 });
  const cost = new StepCostModel();
  assert.deepEqual(choosePrefill([seq], FREE, cost)[0]?.chunk, { start: 0, count: 512, mode: 0 });
  seq.numComputed = 512;
  const [last] = choosePrefill([seq], FREE, cost);
  assert.deepEqual(last?.chunk, { start: 512, count: 488, mode: 0 });
  assert.equal(last?.completes, true);
  assert.equal(last?.logitRows, 1);
});

test('a long prompt leaves room for short ones behind it', () => {
  const long = sequenceOf({ numPrompt: 5000 });
  const short = [sequenceOf({ numPrompt: 20 }), sequenceOf({ numPrompt: 100 })];
  const items = choosePrefill([long, ...short], FREE, new StepCostModel());
  assert.deepEqual(
    items.map(({ seq, chunk }) => [seq === long, chunk.count]),
    [
      [true, 384],
      [false, 20],
      [false, 100],
    ],
  );
});

test('generated tokens are replayed by the recurrent form, apart from the prompt', () => {
  const seq = sequenceOf({ numPrompt: 70, generatedIds: Int32Array.from({ length: 200 }, (_, i) => i % 9) });
  const cost = new StepCostModel();
  const [first] = choosePrefill([seq], FREE, cost);
  assert.deepEqual(first?.chunk, { start: 0, count: 70, mode: 0 });
  assert.equal(first?.completes, false);
  seq.numComputed = 70;
  const [replay] = choosePrefill([seq], FREE, cost);
  assert.deepEqual(replay?.chunk, { start: 70, count: 200, mode: 1 });
  assert.equal(replay?.completes, true);
});

test('under a small budget the first sequence still gets 64 tokens', () => {
  const items = choosePrefill(
    [sequenceOf({ numPrompt: 1000 }), sequenceOf({ numPrompt: 1000 })],
    { ...FREE, budgetMs: 0.001 },
    new StepCostModel(),
  );
  assert.deepEqual(
    items.map(({ chunk }) => chunk.count),
    [64],
  );
});

test('prompt log-probabilities bound the chunk by the logit rows', () => {
  const seq = sequenceOf({ numPrompt: 300, promptLogprobs: true });
  const [item] = choosePrefill([seq], FREE, new StepCostModel());
  assert.deepEqual(item?.chunk, { start: 0, count: 64, mode: 0 });
  assert.equal(item?.logitRows, 64);
});

test('property: every step makes progress within its limits and cuts prompts on the grid only', () => {
  const part = fc.record({
    numPrompt: fc.integer({ min: 1, max: 700 }),
    generated: fc.nat(150),
    promptLogprobs: fc.boolean(),
  });
  const limits = fc.record({
    maxTokens: fc.constantFrom(64, 128, 512),
    maxLogitRows: fc.constantFrom(64, 100),
    maxSequences: fc.integer({ min: 1, max: 5 }),
    budgetMs: fc.constantFrom(0.1, 5, 30, Infinity),
  });
  fc.assert(
    fc.property(fc.array(part, { minLength: 1, maxLength: 8 }), limits, (parts, limit) => {
      const cost = new StepCostModel();
      let left = parts.map(({ numPrompt, generated, promptLogprobs }) =>
        sequenceOf({ numPrompt, promptLogprobs, generatedIds: new Int32Array(generated) }),
      );
      for (let steps = 0; left.length > 0; steps++) {
        assert.ok(steps < 1000);
        const items = choosePrefill(left, { ...FREE, ...limit }, cost);
        assert.equal(items[0]?.seq, left[0]);
        assert.ok(items.length <= limit.maxSequences);
        assert.ok(items.reduce((sum, { chunk }) => sum + chunk.count, 0) <= limit.maxTokens);
        assert.ok(items.reduce((sum, item) => sum + item.logitRows, 0) <= limit.maxLogitRows);
        assert.equal(new Set(items.map(({ seq }) => seq)).size, items.length);
        for (const { seq, chunk, completes } of items) {
          assert.ok(chunk.count > 0);
          assert.equal(chunk.start, seq.numComputed);
          const end = chunk.start + chunk.count;
          if (chunk.mode === 0) {
            assert.equal(chunk.start % 64, 0);
            assert.ok(end === seq.numPrompt || (end < seq.numPrompt && end % 64 === 0));
          } else {
            assert.ok(chunk.start >= seq.numPrompt);
          }
          assert.equal(completes, end === seq.numTokens);
          seq.numComputed = end;
        }
        left = left.filter((seq) => seq.numPending > 0);
      }
    }),
    { numRuns: 300 },
  );
});
