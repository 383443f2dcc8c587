import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatTraceparent, parseTraceparent, traceFields } from './trace-context.ts';

const hex = (length: number): fc.Arbitrary<string> =>
  fc
    .array(fc.constantFrom(...Array.from('0123456789abcdef')), { minLength: length, maxLength: length })
    .map((digits) => digits.join(''))
    .filter((text) => /[^0]/.test(text));

test('what is written is read back', () => {
  fc.assert(
    fc.property(hex(32), hex(16), fc.boolean(), (traceId, spanId, sampled) => {
      const text = formatTraceparent({ traceId, spanId, sampled });
      assert.equal(text.length, 55);
      assert.deepEqual(parseTraceparent(text), { traceId, spanId, sampled });
    }),
  );
});

test('what the recommendation calls invalid is none', () => {
  const [trace, span] = ['0af7651916cd43dd8448eb211c80319c', 'b7ad6b7169203331'];
  for (const bad of [
    '',
    'nonsense',
    `ff-${trace}-${span}-01`,
    `00-${'0'.repeat(32)}-${span}-01`,
    `00-${trace}-${'0'.repeat(16)}-01`,
    `00-${trace}-${span}-01-more`,
    `00-${trace.toUpperCase()}-${span}-01`,
    `00-${trace}-${span}-1`,
    ` 00-${trace}-${span}-01`,
  ])
    assert.equal(parseTraceparent(bad), null, bad);
  // A later version may have more fields, and flags beside that of sampling.
  assert.equal(parseTraceparent(`01-${trace}-${span}-03-more`)?.sampled, true);
  assert.equal(parseTraceparent(`00-${trace}-${span}-02`)?.sampled, false);
  assert.deepEqual(traceFields('nonsense'), {});
});
