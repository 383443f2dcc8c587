import assert from 'node:assert/strict';
import { test } from 'node:test';
import { growthOf, type Sample, slopeOf } from './leaks.ts';
import { Random } from './random.ts';

/** Amounts around 100 MB, as heaps are after a collection, and what each request adds. */
function samplesOf(perRequest: number, noise: number): Sample[] {
  const random = new Random(7);
  return Array.from({ length: 12 }, (_, i) => {
    const requests = i * 500;
    return { requests, value: 1e8 + perRequest * requests + noise * (random.next() - 0.5) };
  });
}

test('what each request leaves behind is seen through the noise of a heap', () => {
  assert.equal(slopeOf(samplesOf(1000, 0)), 1000);
  for (const leak of [0, 500, 5000]) {
    const growth = growthOf(samplesOf(leak, 1e6));
    assert.ok(Math.abs(growth - leak) < 250, `${growth} for ${leak}`);
  }
});

test('one sample beside the line is no leak, and hides none', () => {
  for (const leak of [0, 5000]) {
    const samples = samplesOf(leak, 0).map((sample, i) =>
      i === 5 ? { ...sample, value: sample.value + 5e7 } : sample,
    );
    assert.ok(Math.abs(growthOf(samples) - leak) < 1);
  }
});

test('what a real heap keeps of each request is seen', () => {
  const kept: Uint8Array[] = [];
  const samples = [0, 1, 2, 3].map((stretch) => {
    for (let i = 0; i < 200 * Number(stretch > 0); i++) kept.push(new Uint8Array(4096).fill(i));
    return { requests: stretch * 200, value: process.memoryUsage().arrayBuffers };
  });
  assert.ok(growthOf(samples) >= 3500, String(growthOf(samples)));
  assert.equal(kept.length, 600);
});

test('samples at one count have no slope', () => {
  assert.throws(
    () =>
      slopeOf([
        { requests: 1, value: 1 },
        { requests: 1, value: 2 },
      ]),
    TypeError,
  );
  assert.throws(() => growthOf([{ requests: 1, value: 1 }]), TypeError);
});
