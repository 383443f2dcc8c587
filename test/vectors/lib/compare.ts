import assert from 'node:assert/strict';

/** Largest absolute difference; infinite where only one side is finite or a NaN appears. */
export function maxAbsDiff(a: Float32Array, b: Float32Array): number {
  assert.equal(a.length, b.length, 'lengths differ');
  let largest = 0;
  for (let i = 0; i < a.length; i++) {
    const x = a[i] as number;
    const y = b[i] as number;
    if (x === y) continue;
    const diff = Math.abs(x - y);
    if (Number.isNaN(diff)) return Infinity;
    if (diff > largest) largest = diff;
  }
  return largest;
}

/** Asserts that two arrays agree within an absolute tolerance, naming the first place that does not. */
export function assertClose(actual: Float32Array, expected: Float32Array, tolerance: number, what: string): void {
  assert.equal(actual.length, expected.length, `${what}: lengths`);
  const worst = maxAbsDiff(actual, expected);
  if (worst <= tolerance) return;
  const at = actual.findIndex((x, i) => !(x === expected[i] || Math.abs(x - (expected[i] as number)) <= tolerance));
  assert.fail(
    `${what}: largest difference ${worst.toExponential(2)}, allowed ${tolerance.toExponential(0)}; ` +
      `first at ${at}: ${actual[at]} instead of ${expected[at]}`,
  );
}

/** Asserts that two arrays are the same bit for bit. */
export function assertSameBits(actual: Float32Array, expected: Float32Array, what: string): void {
  const a = Buffer.from(actual.buffer, actual.byteOffset, actual.byteLength);
  const b = Buffer.from(expected.buffer, expected.byteOffset, expected.byteLength);
  if (a.equals(b)) return;
  assert.equal(actual.length, expected.length, `${what}: lengths`);
  const at = new Uint32Array(a.buffer, a.byteOffset, actual.length).findIndex(
    (bits, i) => bits !== new Uint32Array(b.buffer, b.byteOffset, expected.length)[i],
  );
  assert.fail(`${what}: bits differ first at ${at}: ${actual[at]} instead of ${expected[at]}`);
}

/** KL(reference || other) in nats of two rows of logits, over the first `size` ids. */
export function klDivergence(reference: Float32Array, other: Float32Array, size: number): number {
  const p = logSoftmax(reference, size);
  const q = logSoftmax(other, size);
  return p.reduce((sum, logP, i) => sum + Math.exp(logP) * (logP - (q[i] as number)), 0);
}

function logSoftmax(logits: Float32Array, size: number): Float64Array {
  const row = Float64Array.from(logits.subarray(0, size));
  const largest = row.reduce((a, b) => Math.max(a, b), -Infinity);
  const logSum = Math.log(row.reduce((sum, x) => sum + Math.exp(x - largest), 0)) + largest;
  return row.map((x) => x - logSum);
}
