import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { QuantisedFormat, TensorSource } from '../ts/index.ts';
import { makeRuntime, native, Random, tensor } from './support.ts';

const FORMATS: { format: QuantisedFormat; dtype: string; rowBytes: number; scales: [number, number]; width: number }[] =
  [
    { format: 'fp8', dtype: 'F8_E4M3', rowBytes: 201, scales: [7, 2], width: 4 },
    { format: 'q8', dtype: 'Q8', rowBytes: 201, scales: [7, 4], width: 2 },
    { format: 'q4', dtype: 'Q4', rowBytes: 101, scales: [7, 7], width: 2 },
  ];

function source(): TensorSource {
  return tensor(new Random(5).floats(7 * 201), [7, 201], 'F32');
}

for (const { format, dtype, rowBytes, scales, width } of FORMATS) {
  test(`a tensor in ${format} has the sizes of its format`, async () => {
    const result = await native.quantise(makeRuntime(), source(), format);
    assert.equal(result.dtype, dtype);
    assert.equal(result.data.length, 7 * rowBytes);
    assert.deepEqual(result.scale.shape, scales);
    assert.equal(result.scale.data.length, scales[0] * scales[1] * width);
  });

  test(`rows quantised to ${format} do not depend on the others`, async () => {
    const rows = Int32Array.of(5, 2);
    const all = await native.quantise(makeRuntime({ threads: 2 }), source(), format);
    const some = await native.quantise(makeRuntime(), { ...source(), rows }, format);
    const row = (r: number): Buffer => all.data.subarray(r * rowBytes, (r + 1) * rowBytes);
    assert.deepEqual(some.data, Buffer.concat([row(5), row(2)]));
  });
}

test('what cannot be quantised is refused by name', () => {
  const runtime = makeRuntime();
  const refuse = (bad: unknown, format: unknown, message: RegExp): void => {
    assert.throws(() => native.quantise(runtime, bad as TensorSource, format as QuantisedFormat), message);
  };
  refuse(source(), 'bf16', /^RangeError: format: is not fp8, q8 or q4/);
  refuse(source(), 'q5', /^RangeError: format: is not one of/);
  refuse({ ...source(), data: new Uint8Array(3) }, 'q8', /^RangeError: source\.data/);
  refuse({ ...source(), dtype: 'Q8' }, 'q8', /^RangeError: source\.data/);
  refuse({ ...source(), dtype: 'Q8', data: new Uint8Array(7 * 201) }, 'q4', /^RangeError: source\.scale: is missing/);
});
