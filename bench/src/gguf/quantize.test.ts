import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seedOf, fillWords } from '../models/random.ts';
import { decode } from '../testing/gguf-reader.ts';
import { encode, formatBytes, fromF16, toF16, type GgmlType } from './quantize.ts';

/** Numbers with outliers, zeros, signs and whole blocks of nothing. */
function samples(count: number, seed: string): Float32Array {
  const words = new Uint32Array(count);
  fillWords(seedOf(seed), words);
  return Float32Array.from(words, (word, i) => {
    if (Math.floor(i / 256) % 5 === 3) return 0;
    const value = ((word & 0xffff) / 32768 - 1) * (word >>> 31 === 0 ? 1 : 0.01);
    return i % 97 === 0 ? value * 20 : value;
  });
}

function largest(values: Float32Array, from: number, count: number): number {
  return values.subarray(from, from + count).reduce((max, x) => Math.max(max, Math.abs(x)), 0);
}

test('halves: every one of them survives, and numbers between go to the nearest, ties to even', () => {
  for (let half = 0; half < 65536; half++) {
    const value = fromF16(half);
    if (Number.isNaN(value)) assert.ok(Number.isNaN(fromF16(toF16(value))));
    else assert.equal(toF16(value), half, `0x${half.toString(16)}`);
  }
  for (let half = 0; half < 0x7bff; half++) {
    const middle = (fromF16(half) + fromF16(half + 1)) / 2;
    assert.equal(toF16(middle), half % 2 === 0 ? half : half + 1);
    assert.equal(toF16(-middle), 0x8000 | (half % 2 === 0 ? half : half + 1));
  }
  assert.equal(toF16(65519), 0x7bff);
  assert.equal(toF16(65520), 0x7c00);
});

/** Largest error that a format may make: half a step of its scale, plus the scale's own rounding. */
const TOLERANCE: Record<'Q8_0' | 'Q4_0' | 'Q6_K', { group: number; share: number }> = {
  Q8_0: { group: 32, share: 0.5 / 127 + (127 * 2 ** -11) / 127 },
  // The positive side of a 4-bit block ends one step early.
  Q4_0: { group: 32, share: 1 / 8 + 2 ** -10 },
  Q6_K: { group: 16, share: 1 / 32 },
};

for (const type of ['Q8_0', 'Q4_0'] as const) {
  test(`${type}: decoded values are within half a step`, () => {
    const values = samples(256 * 40, type);
    const decoded = decode(type, encode(type, values));
    const { group, share } = TOLERANCE[type];
    for (const [i, value] of values.entries()) {
      const bound = largest(values, i - (i % group), group) * share + 1e-7;
      assert.ok(Math.abs((decoded[i] ?? NaN) - value) <= bound, `${i}: ${value} became ${decoded[i]}`);
    }
  });
}

test('Q6_K: decoded values are within half a step of their group, whose scale is one of 256', () => {
  const values = samples(256 * 40, 'Q6_K');
  const decoded = decode('Q6_K', encode('Q6_K', values));
  for (const [i, value] of values.entries()) {
    const group = largest(values, i - (i % 16), 16);
    const block = largest(values, i - (i % 256), 256);
    // Half a step of the group, one at the positive end, and 32 steps of the scale's rounding error.
    const bound = group / 32 + (block / 32 / 128) * 0.51 * 32 + block * 2 ** -10 + 1e-7;
    assert.ok(Math.abs((decoded[i] ?? NaN) - value) <= bound, `${i}: ${value} became ${decoded[i]} (bound ${bound})`);
  }
});

test('quantised blocks are ggml’s: bytes worked out by hand', () => {
  const ramp = Float32Array.from({ length: 32 }, (_, i) => i - 16);
  const q8 = encode('Q8_0', ramp);
  // 16 / 127 = 0.12598, as a half 0x3008.
  assert.deepEqual([...q8.subarray(0, 2)], [0x08, 0x30]);
  assert.deepEqual([...new Int8Array(q8.buffer, 2, 3)], [-127, -119, -111]);
  assert.equal(new Int8Array(q8.buffer)[33], 119);
  const q4 = encode('Q4_0', ramp);
  // -16 / -8 = 2, as a half 0x4000; value 0 is -16 -> code 0, value 16 is 0 -> code 8.
  assert.deepEqual([...q4.subarray(0, 3)], [0x00, 0x40, 0x80]);
  // Values 1 and 17: -15 / 2 + 8.5 = 1, 1 / 2 + 8.5 = 9.
  assert.equal(q4[3], 0x91);
});

test('formats refuse values that fill no whole block', () => {
  const types: [GgmlType, number][] = [
    ['Q8_0', 32],
    ['Q4_0', 32],
    ['Q6_K', 256],
  ];
  for (const [type, block] of types) {
    assert.throws(() => encode(type, new Float32Array(block + 1)), RangeError);
    assert.equal(formatBytes(type, 3 * block), 3 * encode(type, new Float32Array(block)).length);
  }
});

test('zeros stay zeros', () => {
  for (const type of ['Q8_0', 'Q4_0', 'Q6_K', 'BF16', 'F32'] as const) {
    assert.ok(
      decode(type, encode(type, new Float32Array(256))).every((value) => value === 0),
      type,
    );
  }
});
