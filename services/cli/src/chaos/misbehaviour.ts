import { experts } from '@guildhall/proto';
import type { Misbehaviour } from './worker-front.ts';

const { ReplyStatus } = experts;

function encode(value: experts.ForwardReply): Buffer {
  return Buffer.from(experts.ServerFrame.encode({ frame: { $case: 'reply', value } }).finish());
}

/** True for one call in `every`, the first one not among them. */
function oneIn(every: number): () => boolean {
  let count = 0;
  return () => ++count % every === 0;
}

/** Every reply comes this much later. */
export function delayed(ms: number): Misbehaviour {
  return (_reply, frame) => [{ frame, afterMs: ms }];
}

/** One reply in `every` is bytes without a meaning: all of it, or all but its tag and length. */
export function garbage(every: number): Misbehaviour {
  const due = oneIn(every);
  let whole = false;
  return (_reply, frame) => {
    if (!due()) return [{ frame, afterMs: 0 }];
    whole = !whole;
    const bytes = Buffer.from(frame.map((_, index) => (index * 151 + 89) & 0xff));
    if (!whole) frame.copy(bytes, 0, 0, 4);
    return [{ frame: bytes, afterMs: 0 }];
  };
}

/** One reply in `every` has a row too few or too many, half its bytes, or a count that its bytes do not bear out. */
export function wrongShapes(every: number): Misbehaviour {
  const due = oneIn(every);
  let turn = 0;
  return (reply, frame) => {
    if (!due() || reply.numRows === 0) return [{ frame, afterMs: 0 }];
    const { rows, numRows } = reply;
    const rowBytes = rows.length / numRows;
    const shapes: Partial<experts.ForwardReply>[] = [
      { numRows: numRows - 1, rows: rows.subarray(rowBytes) },
      { numRows: numRows + 1, rows: Buffer.concat([rows, rows.subarray(0, rowBytes)]) },
      { rows: rows.subarray(rows.length / 2) },
      { numRows: numRows * 2 },
      { numRows: 0, rows: Buffer.alloc(0) },
    ];
    return [{ frame: encode({ ...reply, ...shapes[turn++ % shapes.length] }), afterMs: 0 }];
  };
}

/**
 * One reply in `every` is first refused as `busy`, so that the router asks again, and then comes late, under the
 * attempt that is over, with other numbers. The other replies come once more with other numbers.
 */
export function lateReplies(every: number, lateMs: number): Misbehaviour {
  const due = oneIn(every);
  return (reply, frame) => {
    const stale = encode({ ...reply, rows: Buffer.alloc(reply.rows.length, 0x3f) });
    if (!due()) {
      return [
        { frame, afterMs: 0 },
        { frame: stale, afterMs: 1 },
      ];
    }
    const refusal = encode({ ...reply, status: ReplyStatus.REPLY_STATUS_BUSY, numRows: 0, rows: Buffer.alloc(0) });
    return [
      { frame: refusal, afterMs: 0 },
      { frame: stale, afterMs: lateMs },
    ];
  };
}
