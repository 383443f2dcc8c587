import { errorMessage, fail } from '@guildhall/common';
import { experts } from '@guildhall/proto';

/** A client frame as far as TypeScript reads it: rows are native code's. */
export type ClientFrame =
  { kind: 'forward' } | { kind: 'hello'; hello: experts.Hello } | { kind: 'held_query' } | { kind: 'unknown' };

/** Frames other than Forward are small. */
const MAX_CONTROL_BYTES = 64 << 10;
/** Tag of ClientFrame.forward: field 2, length-delimited. */
const FORWARD_TAG = 0x12;

/**
 * Tells what a frame is, without touching a Forward's rows. Throws `protocol_mismatch` on bytes that are no
 * ClientFrame. A frame of a kind that a newer release may send is `unknown`.
 */
export function readClientFrame(bytes: Buffer): ClientFrame {
  if (bytes[0] === FORWARD_TAG) return { kind: 'forward' };
  if (bytes.length > MAX_CONTROL_BYTES) {
    throw fail('protocol_mismatch', `a control frame may have ${MAX_CONTROL_BYTES} bytes, got ${bytes.length}`);
  }
  let frame: experts.ClientFrame['frame'];
  try {
    ({ frame } = experts.ClientFrame.decode(bytes));
  } catch (err) {
    throw fail('protocol_mismatch', `not a ClientFrame: ${errorMessage(err)}`, { cause: err });
  }
  if (frame?.$case === 'hello') return { kind: 'hello', hello: frame.value };
  if (frame?.$case === 'heldQuery') return { kind: 'held_query' };
  if (frame?.$case === 'forward') return { kind: 'forward' };
  return { kind: 'unknown' };
}

/** What a worker holds, as the Held frame states it. */
export function heldFrame(ackedEpoch: number, layers: { layer: number; experts: number[] }[]): Buffer {
  const value = { ackedEpoch: BigInt(ackedEpoch), layers };
  return Buffer.from(experts.ServerFrame.encode({ frame: { $case: 'held', value } }).finish());
}

const WIRE_VARINT = 0;
const WIRE_FIXED64 = 1;
const WIRE_BYTES = 2;
const WIRE_FIXED32 = 5;
const EXPERTS_FIELD = 12;

interface Cursor {
  bytes: Buffer;
  at: number;
}

function varint(cursor: Cursor): number {
  let value = 0;
  for (let shift = 0; shift < 53; shift += 7) {
    const byte = cursor.bytes[cursor.at++];
    if (byte === undefined) return Number.NaN;
    value += (byte & 0x7f) * 2 ** shift;
    if (byte < 0x80) return value;
  }
  return Number.NaN;
}

/** Length of a field's value in front of the cursor; NaN where the bytes make no sense. */
function valueLength(cursor: Cursor, wire: number): number {
  if (wire === WIRE_BYTES) return varint(cursor);
  if (wire === WIRE_FIXED64) return 8;
  if (wire === WIRE_FIXED32) return 4;
  if (wire !== WIRE_VARINT) return Number.NaN;
  const begin = cursor.at;
  const value = varint(cursor);
  const length = cursor.at - begin;
  cursor.at = begin;
  return Number.isNaN(value) ? Number.NaN : length;
}

/** Bytes of the first length-delimited field with this number; null without one. */
function findBytes(bytes: Buffer, wanted: number): Buffer | null {
  const cursor: Cursor = { bytes, at: 0 };
  while (cursor.at < bytes.length) {
    const tag = varint(cursor);
    const wire = tag % 8;
    const length = valueLength(cursor, wire);
    const end = cursor.at + length;
    if (!(end <= bytes.length)) return null;
    if (wire === WIRE_BYTES && Math.floor(tag / 8) === wanted) return bytes.subarray(cursor.at, end);
    cursor.at = end;
  }
  return null;
}

function forwardBytes(frame: Buffer, wanted: number): Buffer | null {
  const forward = findBytes(frame, FORWARD_TAG >> 3);
  return forward === null ? null : findBytes(forward, wanted);
}

/**
 * Calls `visit` with the expert number of every entry of a ClientFrame{Forward}, for load counts. Bytes that are
 * not one are passed over: native code has told the peer about them.
 */
export function forEachExpert(frame: Buffer, visit: (expert: number) => void): void {
  const entries = forwardBytes(frame, EXPERTS_FIELD);
  if (entries === null) return;
  for (let i = 0; i + 1 < entries.length; i += 2) visit(entries.readUInt16LE(i));
}
