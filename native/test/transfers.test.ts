/** Pages and states out of and into pools beside forwards, and checksums, through the addon. */

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

import { LittleModel } from './model.ts';
import { assertSameBits, makeKv, makeRuntime, makeStates, native, sizes } from './support.ts';

setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;

function bytes(length: number, seed: number): Buffer {
  const out = Buffer.alloc(length);
  for (let i = 0; i < length; i++) out[i] = (i * (2 * seed + 3) + (i >>> 8) * seed) % 251;
  return out;
}

/** By the definition, bit by bit. */
function slowCrc(data: Uint8Array): number {
  let crc = -1;
  for (const byte of data) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  }
  return ~crc >>> 0;
}

test('crc32c gives the sums of RFC 3720 and of any part', async () => {
  const counted = Uint8Array.from({ length: 32 }, (_, i) => i);
  const known = [new Uint8Array(32), new Uint8Array(32).fill(0xff), counted];
  assert.deepEqual(await native.crc32c(known), Uint32Array.of(0x8a9136aa, 0x62a8ab43, 0x46dd794e));
  const data = bytes(20_000, 4);
  const parts = [0, 1, 7, 4000, 9999].flatMap((size) => [1, 6, 8].map((from) => data.subarray(from, from + size)));
  assert.deepEqual(await native.crc32c(parts), Uint32Array.from(parts, slowCrc));
  assert.deepEqual(await native.crc32c([new Uint8Array(new SharedArrayBuffer(32))]), Uint32Array.of(0x8a9136aa));
  assert.deepEqual(await native.crc32c([]), new Uint32Array(0));
});

test('pages come back in groups, each part by itself', async () => {
  const pool = makeKv(makeRuntime({ threads: 2 }));
  const size = pool.pageBytes;
  const all = bytes(6 * size, 1);
  await pool.importPages(Int32Array.of(3, 20, 7, 0, 11, 4), [all]);
  for (const group of [1, 2, 3, 6]) {
    const { parts, checksums } = await pool.exportPages(Int32Array.of(3, 20, 7, 0, 11, 4), group);
    assert.equal(parts.length, 6 / group);
    assert.ok(Buffer.concat(parts).equals(all));
    assert.deepEqual(checksums, Uint32Array.from(parts, slowCrc));
    for (const part of parts) assert.equal(part.buffer.byteLength, part.length);
    // Into other pages, in the same groups, out of other memory.
    const targets = Int32Array.of(9, 8, 21, 22, 23, 1);
    await pool.importPages(
      targets,
      parts.map((part) => Buffer.concat([Buffer.alloc(3), part]).subarray(3)),
    );
    assert.ok(Buffer.concat((await pool.exportPages(targets, 1)).parts).equals(all));
  }
  pool.copyPages(Int32Array.of(3), Int32Array.of(5));
  assert.ok((await pool.exportPages(Int32Array.of(5), 1)).parts[0]?.equals(all.subarray(0, size)));
  assert.deepEqual(await pool.exportPages(new Int32Array(0), 2), { parts: [], checksums: new Uint32Array(0) });
  await pool.importPages(new Int32Array(0), []);
});

test('states come back, whatever is done to other slots', async () => {
  const states = makeStates(makeRuntime());
  const data = bytes(states.slotBytes, 2);
  await states.importState(1, data);
  states.copy(1, 2);
  states.reset(1);
  const copy = await states.exportState(2);
  assert.ok(copy.data.equals(data));
  assert.equal(copy.checksum, slowCrc(data));
  assert.ok((await states.exportState(1)).data.every((byte) => byte === 0));
});

test('an import in many steps, with forwards between them', async () => {
  const model = await LittleModel.create(makeRuntime({ threads: 2 }), 'f32');
  const pool = new native.KvPool(model.runtime, {
    numPages: 80,
    numLayers: 8,
    numKvHeads: 2,
    headDim: 24,
    format: 'f32',
  });
  const pages = Int32Array.from({ length: 80 }, (_, i) => 79 - i);
  const data = bytes(80 * pool.pageBytes, 5);
  assert.ok(data.length > 12 << 20, 'several steps');
  const sequence = {
    tokens: Array.from({ length: 100 }, (_, i) => (i * 7) % sizes.tokenizerSize),
    init: -2,
    pages: [1, 2],
  };
  const expected = await model.forward([{ ...sequence, slot: 0 }]);
  const [decode] = await Promise.all([
    model.forward([{ ...sequence, slot: 1 }], 'decode'),
    pool.importPages(pages, [data]),
  ]);
  assertSameBits(decode.logits, expected.logits);
  assert.ok(Buffer.concat((await pool.exportPages(pages, 4)).parts).equals(data));
});

test('buffers may be forgotten while they are read, and pools while they are copied', async () => {
  const size = makeKv(makeRuntime()).pageBytes;
  const run = async (seed: number) => {
    const pool = makeKv(makeRuntime());
    await pool.importPages(Int32Array.of(seed), [bytes(size, seed)]);
    return pool.exportPages(Int32Array.of(seed), 1);
  };
  const pending = Array.from({ length: 8 }, (_, seed) => [run(seed), native.crc32c([bytes(1 << 20, seed)])] as const);
  for (let i = 0; i < 5; i++) {
    collect();
    await new Promise((resolve) => setImmediate(resolve));
  }
  for (const [seed, [copy, sum]] of pending.entries()) {
    assert.ok((await copy).parts[0]?.equals(bytes(size, seed)));
    assert.equal((await sum)[0], slowCrc(bytes(1 << 20, seed)));
  }
});

test('an environment may end during transfers', async () => {
  const worker = new Worker(new URL('./transfers-worker.ts', import.meta.url));
  const [message] = (await once(worker, 'message')) as [string];
  assert.equal(message, 'started');
  assert.equal(await worker.terminate(), 1);
});
