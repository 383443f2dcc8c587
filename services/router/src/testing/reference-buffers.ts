import assert from 'node:assert/strict';
import { fail } from '@guildhall/common';
import type { CombineMode, ForwardHeader, ReplyHeader } from '@guildhall/native';
import { experts } from '@guildhall/proto';
import type { DispatchBuffers } from '../experts/dispatch.ts';

/**
 * The dispatch side of StepBuffers in plain TypeScript over the generated protobuf code, with f32 rows: what the
 * native packing must be equal to, and what dispatch is tested with where arithmetic does not matter.
 */
export class ReferenceBuffers implements DispatchBuffers {
  readonly topkIds: Int32Array;
  readonly topkWeights: Float32Array;
  readonly input: Float32Array;
  readonly hidden: number;
  readonly topK: number;
  /** Expert row of each slot, null while missing. */
  readonly slots: (Float32Array | null)[];

  /** `choices` are the experts of each row. Inputs are small integers, so that any order of sums is exact. */
  constructor(choices: readonly (readonly number[])[], hidden: number) {
    this.hidden = hidden;
    this.topK = choices[0]?.length ?? 0;
    this.topkIds = Int32Array.from(choices.flat());
    this.topkWeights = Float32Array.from(this.topkIds, (_, i) => 1 / (1 + (i % 4)));
    this.input = Float32Array.from({ length: choices.length * hidden }, (_, i) => ((i * 13) % 61) - 30);
    this.slots = Array.from(this.topkIds, () => null);
  }

  get numTokens(): number {
    return this.input.length / this.hidden;
  }

  row(index: number): Float32Array {
    return this.input.subarray(index * this.hidden, (index + 1) * this.hidden);
  }

  beginCombine(): void {
    this.slots.fill(null);
  }

  missing(): number {
    return this.slots.filter((slot) => slot === null).length;
  }

  packForward(
    header: ForwardHeader,
    rowIndex: Int32Array,
    entryCount: Int32Array,
    wanted: Int32Array,
    weights: Float32Array,
  ): Buffer {
    assert.equal(
      entryCount.reduce((sum, count) => sum + count, 0),
      wanted.length,
    );
    const rows = Buffer.concat(Array.from(rowIndex, (index) => bytesOf(this.row(index))));
    const value = experts.Forward.fromPartial({
      ...header,
      combineMode: header.combineMode === 'exact' ? 1 : 2,
      traceparent: Buffer.from(header.traceparent ?? ''),
      numRows: rowIndex.length,
      rowEntries: bytesOf(Uint16Array.from(entryCount)),
      experts: bytesOf(Uint16Array.from(wanted)),
      weights: bytesOf(weights),
      rows,
    });
    return Buffer.from(experts.ClientFrame.encode({ frame: { $case: 'forward', value } }).finish());
  }

  unpackReply(frame: Uint8Array, slots: Int32Array, entryCount: Int32Array, mode: CombineMode): void {
    assert.equal(mode, 'exact');
    const reply = decodeReply(frame);
    const count = entryCount.reduce((sum, entries) => sum + entries, 0);
    if (reply.numRows !== count || reply.rows.length !== count * this.hidden * 4) {
      throw fail('native_invalid_argument', `reply: ${reply.numRows} rows in ${reply.rows.length} bytes`);
    }
    const values = new Float32Array(Uint8Array.from(reply.rows).buffer);
    for (const [i, slot] of slots.entries()) {
      assert.equal(this.slots[slot], null, 'a row came twice');
      this.slots[slot] = values.slice(i * this.hidden, (i + 1) * this.hidden);
    }
  }
}

/** Header of a ServerFrame{ForwardReply}, by the generated code. */
export function referenceReplyHeader(frame: Uint8Array): ReplyHeader {
  const { notHeld, ...header } = decodeReply(frame);
  return { ...header, notHeld: Int32Array.from({ length: notHeld.length / 2 }, (_, i) => notHeld.readUInt16LE(2 * i)) };
}

function decodeReply(bytes: Uint8Array): experts.ForwardReply {
  const { frame } = experts.ServerFrame.decode(bytes);
  if (frame?.$case !== 'reply') throw fail('native_invalid_argument', 'frame: not a reply');
  return frame.value;
}

function bytesOf(array: Uint16Array | Float32Array): Buffer {
  return Buffer.from(array.buffer, array.byteOffset, array.byteLength);
}
