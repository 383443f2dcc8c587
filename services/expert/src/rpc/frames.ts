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
const COMBINE_MODE_FIELD = 9;
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

/** Steps over a field's value: bytes, a varint, or 0 for a fixed number. Null where the bytes make no sense. */
function fieldValue(cursor: Cursor, wire: number): Buffer | number | null {
  if (wire === WIRE_VARINT) {
    const value = varint(cursor);
    return Number.isNaN(value) ? null : value;
  }
  const sizes: Record<number, number> = { [WIRE_FIXED64]: 8, [WIRE_FIXED32]: 4 };
  const length = wire === WIRE_BYTES ? varint(cursor) : (sizes[wire] ?? Number.NaN);
  const begin = cursor.at;
  cursor.at += length;
  if (!(cursor.at <= cursor.bytes.length)) return null;
  return wire === WIRE_BYTES ? cursor.bytes.subarray(begin, cursor.at) : 0;
}

function findField(bytes: Buffer, wanted: number): Buffer | number | null {
  const cursor: Cursor = { bytes, at: 0 };
  while (cursor.at < bytes.length) {
    const tag = varint(cursor);
    if (Number.isNaN(tag)) return null;
    const value = fieldValue(cursor, tag % 8);
    if (value === null) return null;
    if (Math.floor(tag / 8) === wanted) return value;
  }
  return null;
}

function forwardField(frame: Buffer, wanted: number): Buffer | number | null {
  const forward = findField(frame, FORWARD_TAG >> 3);
  return forward instanceof Buffer ? findField(forward, wanted) : null;
}

/** Combine mode of a ClientFrame{Forward}; unspecified where it cannot be read. */
export function combineModeOf(frame: Buffer): experts.CombineMode {
  const mode = forwardField(frame, COMBINE_MODE_FIELD);
  return typeof mode === 'number' ? (mode as experts.CombineMode) : experts.CombineMode.COMBINE_MODE_UNSPECIFIED;
}

/**
 * Calls `visit` with the expert number of every entry of a ClientFrame{Forward}, for load counts. Bytes that are
 * not one are passed over: native code has told the peer about them.
 */
export function forEachExpert(frame: Buffer, visit: (expert: number) => void): void {
  const entries = forwardField(frame, EXPERTS_FIELD);
  if (!(entries instanceof Buffer)) return;
  for (let i = 0; i + 1 < entries.length; i += 2) visit(entries.readUInt16LE(i));
}
