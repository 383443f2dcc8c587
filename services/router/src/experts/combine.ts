import { errorMessage } from '@guildhall/common';
import type { CombineMode, ReplyHeader, StepBuffers } from '@guildhall/native';
import { experts } from '@guildhall/proto';
import type { Part } from './plan.ts';

/** What a reply means for the entries that it answers. */
export type Collected =
  | { kind: 'done' }
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

/**
 * Takes the reply to a part back into the step's buffers: rows go to the slots that the part was made from, in any
 * order of replies. A reply whose rows do not fit is the worker's fault and leaves the buffers as they were.
 */
export function collect(
  step: Pick<StepBuffers, 'unpackReply'>,
  part: Part,
  header: ReplyHeader,
  frame: Uint8Array,
  mode: CombineMode,
): Collected {
  switch (header.status) {
    case experts.ReplyStatus.REPLY_STATUS_OK:
      try {
        step.unpackReply(frame, part.slots, part.entryCount, mode);
        return { kind: 'done' };
      } catch (err) {
        return { kind: 'fault', reason: `a reply that does not fit: ${errorMessage(err)}` };
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
