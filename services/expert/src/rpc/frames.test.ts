import assert from 'node:assert/strict';
import { test } from 'node:test';
import { experts } from '@guildhall/proto';
import fc from 'fast-check';
import { clientFrame, forwardFrame, helloFor } from '../testing/test-router.ts';
import { forEachExpert, heldFrame, readClientFrame } from './frames.ts';

function expertsOf(frame: Buffer): number[] {
  const seen: number[] = [];
  forEachExpert(frame, (expert) => seen.push(expert));
  return seen;
}

const hello = helloFor({ fingerprint: 'f', numericsId: 'n' });

test('frames are told apart', () => {
  assert.equal(readClientFrame(clientFrame({ $case: 'hello', value: hello })).kind, 'hello');
  assert.equal(readClientFrame(clientFrame({ $case: 'heldQuery', value: {} })).kind, 'held_query');
  assert.equal(
    readClientFrame(forwardFrame(1, { layer: 0, entries: [[1]], rows: new Float32Array(4) })).kind,
    'forward',
  );
  // A field that this release does not know, alone and before a known one.
  assert.equal(readClientFrame(Buffer.from([0x7a, 0x01, 0x00])).kind, 'unknown');
  assert.equal(readClientFrame(Buffer.alloc(0)).kind, 'unknown');
  const mixed = Buffer.concat([Buffer.from([0x7a, 0x01, 0x00]), clientFrame({ $case: 'hello', value: hello })]);
  assert.equal(readClientFrame(mixed).kind, 'hello');
});

test('bytes that are no frame, and control frames of any size, are refused', () => {
  assert.throws(() => readClientFrame(Buffer.from([0x0a, 0xff, 0x01])), { code: 'protocol_mismatch' });
  assert.throws(() => readClientFrame(Buffer.from([0xff])), { code: 'protocol_mismatch' });
  const huge = clientFrame({ $case: 'hello', value: { ...hello, routerId: 'x'.repeat(100_000) } });
  assert.throws(() => readClientFrame(huge), { code: 'protocol_mismatch', message: /65536/ });
});

test('the experts of a forward are found whatever stands before them', () => {
  fc.assert(
    fc.property(
      fc.array(fc.array(fc.nat(65_535), { minLength: 1, maxLength: 4 }), { minLength: 1, maxLength: 5 }),
      fc.string(),
      (entries, trace) => {
        const frame = forwardFrame(
          9,
          { layer: 3, entries, rows: new Float32Array(entries.length * 4) },
          { traceparent: Buffer.from(trace) },
        );
        assert.deepEqual(expertsOf(frame), entries.flat());
      },
    ),
  );
});

test('no bytes make counting or reading fail otherwise than by refusal', () => {
  const good = forwardFrame(9, { layer: 3, entries: [[1, 2], [3]], rows: new Float32Array(8) });
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array({ maxLength: 64 }),
        fc
          .tuple(fc.nat(good.length - 1), fc.nat(255))
          .map(([at, value]) => Uint8Array.from(good).fill(value, at, at + 1)),
      ),
      (bytes) => {
        expertsOf(Buffer.from(bytes));
        try {
          readClientFrame(Buffer.from(bytes));
        } catch (err) {
          assert.equal((err as { code: string }).code, 'protocol_mismatch');
        }
      },
    ),
    { numRuns: 2000 },
  );
});

test('a held frame lists layers and the epoch', () => {
  const { frame } = experts.ServerFrame.decode(heldFrame(4, [{ layer: 1, experts: [0, 5] }]));
  assert.deepEqual(frame, { $case: 'held', value: { ackedEpoch: 4n, layers: [{ layer: 1, experts: [0, 5] }] } });
});
