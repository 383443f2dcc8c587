import type { CombineMode, ReplyHeader } from '@guildhall/native';
import { experts } from '@guildhall/proto';
import type { Part } from './plan.ts';

/** What a reply means for the entries that it answers. */
export type Judged =
  /** As many rows came as were asked for; whether they fit is seen when they are taken. */
  | { kind: 'ok' }
  /** Ask again, the queue was full. */
  | { kind: 'busy' }
  /** The worker lacks these experts; none of the part's rows came. */
  | { kind: 'not-held'; experts: number[] }
  /** The worker cannot or may not be used for these entries. */
  | { kind: 'fault'; reason: string };

/** Name of each reply status in metrics and logs. */
export const STATUS_NAMES: Record<number, string> = {
  [experts.ReplyStatus.REPLY_STATUS_OK]: 'ok',
  [experts.ReplyStatus.REPLY_STATUS_NOT_HELD]: 'not_held',
  [experts.ReplyStatus.REPLY_STATUS_BUSY]: 'busy',
  [experts.ReplyStatus.REPLY_STATUS_INVALID]: 'invalid',
  [experts.ReplyStatus.REPLY_STATUS_FAILED]: 'failed',
};

/** Reads the header of the reply to a part. */
export function judge(part: Part, header: ReplyHeader, mode: CombineMode): Judged {
  switch (header.status) {
    case experts.ReplyStatus.REPLY_STATUS_OK: {
      const expected = mode === 'exact' ? part.slots.length : part.rowIndex.length;
      if (header.numRows === expected) return { kind: 'ok' };
      return { kind: 'fault', reason: `answers with ${header.numRows} rows, expected ${expected}` };
    }
    case experts.ReplyStatus.REPLY_STATUS_NOT_HELD: {
      const asked = new Set(part.experts);
      const lacking = Array.from(header.notHeld).filter((expert) => asked.has(expert));
      if (lacking.length === 0) return { kind: 'fault', reason: 'refuses experts that were not asked for' };
      return { kind: 'not-held', experts: lacking };
    }
    case experts.ReplyStatus.REPLY_STATUS_BUSY:
      return { kind: 'busy' };
    case experts.ReplyStatus.REPLY_STATUS_INVALID:
      return { kind: 'fault', reason: `calls the message invalid: ${header.error}` };
    case experts.ReplyStatus.REPLY_STATUS_FAILED:
      return { kind: 'fault', reason: `failed: ${header.error}` };
    default:
      return { kind: 'fault', reason: `unknown reply status ${header.status}` };
  }
}
