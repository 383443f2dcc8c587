import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { GuildhallError } from '@guildhall/common';
import { experts } from '@guildhall/proto';
import type { WorkerIdentity } from '../identity.ts';
import { helloFor } from '../testing/test-router.ts';
import { acceptHello, helloReply } from './hello.ts';

const own: WorkerIdentity = {
  id: 'expert-1',
  incarnation: 5n,
  fingerprint: 'f00d',
  numericsId: 'f32-fma-v1/f32',
  rowFormat: 'f32',
  combine: 'exact',
  hidden: 64,
  numLayers: 4,
  numExperts: 8,
  topK: 2,
  maxMessageBytes: 1 << 20,
  maxQueued: 16,
};

test('a hello that fits is answered with what the worker is', () => {
  const session = acceptHello(
    helloFor(own, { protocolMin: 0, protocolMax: 9, lane: experts.Lane.LANE_PREFILL, maxMessageBytes: 70_000 }),
    own,
  );
  assert.deepEqual(session, { protocol: 1, lane: 'prefill', routerId: 'router-1', maxReplyBytes: 70_000 });
  const frame = experts.ServerFrame.decode(helloReply(own, session)).frame;
  assert.ok(frame?.$case === 'hello');
  const {
    workerId,
    workerIncarnation,
    modelFingerprint,
    numericsId,
    hiddenSize,
    numLayers,
    numExperts,
    maxQueued,
    maxMessageBytes,
  } = frame.value;
  assert.deepEqual(
    [
      workerId,
      workerIncarnation,
      modelFingerprint,
      numericsId,
      hiddenSize,
      numLayers,
      numExperts,
      maxQueued,
      maxMessageBytes,
    ],
    ['expert-1', 5n, 'f00d', 'f32-fma-v1/f32', 64, 4, 8, 16, 1 << 20],
  );
});

const refusals: [string, Partial<experts.Hello>, string, RegExp[]][] = [
  ['an older protocol', { protocolMin: 0, protocolMax: 0 }, 'protocol_mismatch', [/1\.\.1/, /0\.\.0/]],
  ['a newer protocol', { protocolMin: 2, protocolMax: 3 }, 'protocol_mismatch', [/1\.\.1/, /2\.\.3/]],
  ['an inverted range', { protocolMin: 1, protocolMax: 0 }, 'protocol_mismatch', [/1\.\.0/]],
  ['another checkpoint', { modelFingerprint: 'beef' }, 'fingerprint_mismatch', [/f00d/, /beef/]],
  ['another numerics class', { numericsId: 'bf16-dot-v1' }, 'numerics_mismatch', [/f32-fma-v1\/f32/, /bf16-dot-v1/]],
  [
    'another row format',
    { rowFormat: experts.RowFormat.ROW_FORMAT_BF16 },
    'protocol_mismatch',
    [/ROW_FORMAT_F32/, /ROW_FORMAT_BF16/],
  ],
  [
    'another combine mode',
    { combineMode: experts.CombineMode.COMBINE_MODE_PARTIAL },
    'protocol_mismatch',
    [/COMBINE_MODE_EXACT/, /COMBINE_MODE_PARTIAL/],
  ],
  ['no lane', { lane: experts.Lane.LANE_UNSPECIFIED }, 'protocol_mismatch', [/LANE_DECODE/, /LANE_UNSPECIFIED/]],
  ['messages too small for one token', { maxMessageBytes: 100 }, 'protocol_mismatch', [/1048576/, /100/]],
];

for (const [what, change, code, words] of refusals) {
  test(`${what} is refused with both values`, () => {
    assert.throws(
      () => acceptHello(helloFor(own, change), own),
      (err: GuildhallError) => err.code === code && words.every((word) => word.test(err.message)),
    );
  });
}
