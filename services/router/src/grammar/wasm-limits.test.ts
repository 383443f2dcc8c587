import assert from 'node:assert/strict';
import { test } from 'node:test';
import { withLimits } from './wasm-limits.ts';

const HEADER = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
/** 70,000 as signed LEB128 and as four bytes. */
const TOP = [0xf0, 0xa2, 0x04];
const TOP_BYTES = [0x70, 0x11, 0x01, 0x00];

/** A module with one memory, a stack pointer, and data that says where the heap begins. */
function moduleOf(parts: { memory?: number[]; global?: number[]; data?: number[] } = {}): Uint8Array {
  const {
    memory = [1, 1, 2, 16],
    global = [1, 0x7f, 1, 0x41, ...TOP, 0x0b],
    data = [1, 0, 0x41, 8, 0x0b, 4, ...TOP_BYTES],
  } = parts;
  const section = (id: number, body: number[]): number[] => [id, body.length, ...body];
  return Uint8Array.from([...HEADER, ...section(5, memory), ...section(6, global), ...section(11, data)]);
}

test('the stack grows, the heap moves up with it, and memory is bounded', () => {
  const changed = Buffer.from(withLimits(moduleOf(), { stackBytes: 1 << 20, memoryBytes: 64 << 16 }));
  // 70,000 + 1 MiB.
  const moved = [0x70, 0x11, 0x11, 0x00];
  assert.ok(changed.includes(Buffer.from(moved)));
  assert.ok(changed.includes(Buffer.from([0x41, 0xf0, 0xa2, 0xc4, 0x00, 0x0b])), 'first value of the stack pointer');
  assert.ok(!changed.includes(Buffer.from(TOP_BYTES)));
  // Two pages and what the heap has moved to; 64 pages at most.
  assert.deepEqual([...changed.subarray(8, 14)], [5, 4, 1, 1, 2 + 18, 64]);
});

test('a module of another kind is refused', () => {
  const limits = { stackBytes: 1 << 20, memoryBytes: 1 << 20 };
  for (const parts of [
    { global: [1, 0x7f, 0, 0x41, ...TOP, 0x0b] },
    { data: [0] },
    { data: [...TOP_BYTES, ...TOP_BYTES] },
    { memory: [1, 0, 2] },
  ]) {
    assert.throws(() => withLimits(moduleOf(parts), limits), { code: 'internal' }, JSON.stringify(parts));
  }
});
