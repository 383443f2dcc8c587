import assert from 'node:assert/strict';
import { test } from 'node:test';
import { kvFormatOf, numericsId, rowFormatOf } from './numerics.ts';

test('the numerics class names family, formats and combine mode', () => {
  assert.equal(
    numericsId({
      kernelFamily: 'bf16-dot',
      weights: 'bf16',
      rowFormat: 'bf16',
      kvFormat: 'bf16',
      kvKernel: 'dot',
      combine: 'exact',
    }),
    'bf16-dot-v1/bf16/act-bf16/row-bf16/kv-bf16-dot-v1/exact',
  );
  assert.equal(
    numericsId({
      kernelFamily: 'f32-fma',
      weights: 'f32',
      rowFormat: rowFormatOf('f32'),
      kvFormat: kvFormatOf('f32', 'auto'),
      kvKernel: 'fma',
      combine: 'partial',
    }),
    'f32-fma-v1/f32/act-f32/row-f32/kv-f32-fma-v1/partial',
  );
  assert.deepEqual([kvFormatOf('bf16', 'auto'), kvFormatOf('f32', 'fp8')], ['bf16', 'fp8']);
});
