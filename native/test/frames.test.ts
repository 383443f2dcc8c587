/** Frames of the addon against the generated codec: both read what the other writes. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { experts as wire } from '@guildhall/proto';
import fc from 'fast-check';

import type { ForwardHeader } from '../ts/index.ts';
import { allEntries, header, moe } from './model.ts';
import {
  Random,
  assertSameBits,
  batchOf,
  expertWeights,
  fromBf16,
  gateSpec,
  gateWeights,
  makeRuntime,
  makeStep,
  native,
  sizes,
} from './support.ts';

const runtime = makeRuntime();

async function gatedStep(rowFormat: 'f32' | 'bf16', numTokens = 5) {
  const random = new Random(21);
  const step = makeStep(runtime, rowFormat);
  step.setBatch(batchOf([{ tokens: Array.from({ length: numTokens }, (_, i) => i) }]));
  step.setHidden(random.floats(numTokens * sizes.hidden, 2));
  await new native.MoeGate(runtime, gateSpec('f32'), gateWeights(random)).forward(step, 'decode');
  return step;
}

async function fullShard(rowFormat: 'f32' | 'bf16', keep: (expert: number) => boolean = () => true) {
  const { hidden, intermediate, numExperts } = sizes;
  const random = new Random(31);
  const shard = new native.ExpertShard(runtime, {
    numLayers: 1,
    numExperts,
    hidden,
    intermediate,
    format: 'f32',
    rowFormat,
  });
  for (let e = 0; e < numExperts; e++) {
    const { gate, up, down } = expertWeights(random);
    if (keep(e)) await shard.load(0, e, gate, up, down);
  }
  return shard;
}

function u16(view: Uint8Array): number[] {
  return Array.from({ length: view.length / 2 }, (_, i) => view[2 * i]! + 256 * view[2 * i + 1]!);
}

function floats(view: Uint8Array): Float32Array {
  return new Float32Array(Uint8Array.from(view).buffer);
}

test('the generated decoder reads packForward', async () => {
  for (const rowFormat of ['f32', 'bf16'] as const) {
    const step = await gatedStep(rowFormat);
    const e = allEntries(step, 5, (expert) => expert % 2 === 0);
    const full: ForwardHeader = {
      routerIncarnation: 0xfedc_ba98_7654_3210n,
      step: 0xffff_ffff,
      layer: 59,
      microBatch: 1,
      attempt: 2,
      part: 3,
      epoch: 4,
      combineMode: 'partial',
      traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
    };
    const bytes = step.packForward(full, e.rowIndex, e.entryCount, e.experts, e.weights);
    const { frame } = wire.ClientFrame.decode(bytes);
    assert.equal(frame?.$case, 'forward');
    const f = frame.value;
    assert.equal(f.routerIncarnation, full.routerIncarnation);
    assert.deepEqual([f.step, f.layer, f.microBatch, f.attempt, f.part, f.epoch], [0xffff_ffff, 59, 1, 2, 3, 4]);
    assert.equal(f.combineMode, wire.CombineMode.COMBINE_MODE_PARTIAL);
    assert.equal(f.traceparent.toString('latin1'), full.traceparent);
    assert.equal(f.numRows, e.rowIndex.length);
    assert.deepEqual(u16(f.rowEntries), [...e.entryCount]);
    assert.deepEqual(u16(f.experts), [...e.experts]);
    assertSameBits(floats(f.weights), e.weights);
    const rowBytes = step.rows().length / 5;
    const expected = Buffer.concat([...e.rowIndex].map((r) => step.rows().subarray(r * rowBytes, (r + 1) * rowBytes)));
    assert.ok(f.rows.equals(expected));
    const { traceparent, combineMode, ...rest } = native.parseForwardHeader(bytes);
    assert.equal(traceparent, full.traceparent);
    assert.equal(combineMode, wire.CombineMode.COMBINE_MODE_PARTIAL);
    const { combineMode: _, traceparent: __, ...key } = full;
    assert.deepEqual(rest, { ...key, numRows: e.rowIndex.length, numEntries: e.experts.length });
    // Fields in order and nothing padded: the generated encoder gives the same bytes.
    assert.deepEqual(Buffer.from(wire.ClientFrame.encode({ frame }).finish()), bytes);
  }
});

test('rows are the gate rows rounded once', async () => {
  const wide = floats((await gatedStep('f32')).rows());
  const narrow = (await gatedStep('bf16')).rows();
  const bits = new Uint16Array(narrow.buffer.slice(narrow.byteOffset, narrow.byteOffset + narrow.length));
  const rounded = fromBf16(bits);
  assert.equal(rounded.length, wide.length);
  wide.forEach((value, i) => assert.ok(Math.abs(value - rounded[i]!) <= Math.abs(value) / 256));
});

test('the shard serves requests of the generated encoder', async () => {
  const step = await gatedStep('f32');
  const shard = await fullShard('f32');
  const e = allEntries(step, 5);
  const bytes = step.packForward(header, e.rowIndex, e.entryCount, e.experts, e.weights);
  const { frame } = wire.ClientFrame.decode(bytes);
  assert.equal(frame?.$case, 'forward');
  // A field that is zero is left out by the encoder.
  const encoded = wire.ClientFrame.encode({
    frame: { $case: 'forward', value: { ...frame.value, layer: 0, part: 0 } },
  }).finish();
  const [a, b] = await Promise.all([shard.forward(bytes, 5, 'decode'), shard.forward(encoded, 5, 'prefill')]);
  const decodedA = wire.ServerFrame.decode(a).frame;
  const decodedB = wire.ServerFrame.decode(b).frame;
  assert.equal(decodedA?.$case, 'reply');
  assert.equal(decodedB?.$case, 'reply');
  assert.equal(decodedA.value.status, wire.ReplyStatus.REPLY_STATUS_OK);
  assert.equal(decodedA.value.queueUs, 5);
  assert.equal(decodedA.value.numRows, e.experts.length);
  assert.ok(decodedA.value.rows.equals(decodedB.value.rows));
  assert.deepEqual(native.parseReplyHeader(a), {
    routerIncarnation: 77n,
    step: 1,
    layer: 0,
    microBatch: 0,
    attempt: 0,
    part: 0,
    status: wire.ReplyStatus.REPLY_STATUS_OK,
    numRows: e.experts.length,
    computeUs: decodedA.value.computeUs,
    queueUs: 5,
    notHeld: new Int32Array(0),
    error: '',
  });
});

test('unpackReply takes replies of the generated encoder', async () => {
  const step = await gatedStep('f32', 2);
  const e = allEntries(step, 2);
  step.beginCombine();
  const before = step.hidden();
  const rows = new Random(3).floats(e.slots.length * sizes.hidden);
  const reply = wire.ServerFrame.encode({
    frame: {
      $case: 'reply',
      value: {
        ...wire.ForwardReply.fromPartial({}),
        status: wire.ReplyStatus.REPLY_STATUS_OK,
        numRows: e.slots.length,
        rows: Buffer.from(rows.buffer),
      },
    },
  }).finish();
  step.unpackReply(reply, e.slots, e.entryCount, 'exact');
  assert.equal(step.missing(), 0);
  await step.combine('decode');
  const after = step.hidden();
  for (let t = 0; t < 2; t++) {
    for (let i = 0; i < sizes.hidden; i++) {
      let sum = 0;
      for (let k = 0; k < sizes.topK; k++)
        sum += e.weights[t * sizes.topK + k]! * rows[(t * sizes.topK + k) * sizes.hidden + i]!;
      assert.ok(Math.abs(after[t * sizes.hidden + i]! - before[t * sizes.hidden + i]! - sum) < 1e-5);
    }
  }
});

test('experts split over two workers combine to the same bits', async () => {
  const results: Float32Array[] = [];
  const even = (e: number) => e % 2 === 0;
  for (const parts of [[() => true], [even, (e: number) => !even(e)], [(e: number) => e > 6, (e: number) => e <= 6]]) {
    const step = await gatedStep('f32');
    const shards = await Promise.all(parts.map(async (serves) => ({ serves, shard: await fullShard('f32', serves) })));
    await moe(step, 5, shards, 'exact', 'decode');
    results.push(step.hidden());
  }
  assertSameBits(results[1]!, results[0]!);
  assertSameBits(results[2]!, results[0]!);
});

test('a shard names the experts that it lacks', async () => {
  const step = await gatedStep('f32');
  const shard = await fullShard('f32', (e) => e !== step.topkIds[0]);
  const e = allEntries(step, 5);
  const reply = await shard.forward(
    step.packForward(header, e.rowIndex, e.entryCount, e.experts, e.weights),
    0,
    'decode',
  );
  const { frame } = wire.ServerFrame.decode(reply);
  assert.equal(frame?.$case, 'reply');
  assert.equal(frame.value.status, wire.ReplyStatus.REPLY_STATUS_NOT_HELD);
  assert.deepEqual(u16(frame.value.notHeld), [step.topkIds[0]]);
  assert.deepEqual([...native.parseReplyHeader(reply).notHeld], [step.topkIds[0]]);
  assert.equal(frame.value.rows.length, 0);
});

test('status replies answer the request they are for', async () => {
  const step = await gatedStep('f32');
  const request = step.packForward(
    { ...header, step: 9 },
    Int32Array.of(0),
    Int32Array.of(1),
    Int32Array.of(0),
    Float32Array.of(1),
  );
  const reply = native.packStatusReply(request, wire.ReplyStatus.REPLY_STATUS_BUSY, 'queue is full: é');
  const { frame } = wire.ServerFrame.decode(reply);
  assert.equal(frame?.$case, 'reply');
  assert.equal(frame.value.status, wire.ReplyStatus.REPLY_STATUS_BUSY);
  assert.equal(frame.value.step, 9);
  assert.equal(frame.value.routerIncarnation, 77n);
  assert.equal(frame.value.error, 'queue is full: é');
  assert.equal(native.parseReplyHeader(reply).error, 'queue is full: é');
});

test('whatever a peer sends, forward resolves with a reply', async () => {
  const step = await gatedStep('f32');
  const shard = await fullShard('f32');
  const e = allEntries(step, 5);
  const good = step.packForward(header, e.rowIndex, e.entryCount, e.experts, e.weights);
  const damage = fc.record({
    length: fc.nat(good.length),
    edits: fc.array(fc.tuple(fc.nat(160), fc.integer({ min: 0, max: 255 })), { maxLength: 5 }),
  });
  await fc.assert(
    fc.asyncProperty(damage, async ({ length, edits }) => {
      const bytes = Uint8Array.from(good.subarray(0, length));
      for (const [at, value] of edits) if (at < bytes.length) bytes[at] = value;
      const reply = native.parseReplyHeader(await shard.forward(bytes, 0, 'decode'));
      assert.ok([1, 2, 4].includes(reply.status));
      if (reply.status === wire.ReplyStatus.REPLY_STATUS_INVALID) assert.notEqual(reply.error, '');
    }),
    { numRuns: 300 },
  );
});
