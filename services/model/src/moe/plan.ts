import { fail } from '@guildhall/common';
import type { CombineMode } from '@guildhall/native';

/** What the messages of one layer are planned from. */
export interface PlanInput {
  /** [T][K] experts chosen for each token, in any order within a token. */
  topkIds: Int32Array;
  /** [T][K] their gate weights. */
  topkWeights: Float32Array;
  numTokens: number;
  topK: number;
  /** Bytes of one row: hidden size times the row format's width. */
  rowBytes: number;
  mode: CombineMode;
  /** Neither a message nor its reply is larger, in bytes. */
  maxMessageBytes: number;
  /** Which entries are meant (those of one worker, those still missing); all without it. */
  include?: ((expert: number, slot: number) => boolean) | null;
}

/** Arguments of StepBuffers.packForward and unpackReply for one message. */
export interface RowMessage {
  /** Rows of the step, ascending. */
  rowIndex: Int32Array;
  /** Entries of each row. */
  entryCount: Int32Array;
  /** Expert of each entry, ascending within a row. */
  experts: Int32Array;
  /** Gate weight of each entry. */
  weights: Float32Array;
  /** t*K+k of each entry. */
  slots: Int32Array;
}

/** Room for the fields that do not grow: ids, lengths, a traceparent. */
const FIXED_BYTES = 256;
const ROW_OVERHEAD = 2;
const ENTRY_OVERHEAD = 6;

/** One token's entries, or a part of them. */
interface PlannedRow {
  token: number;
  slots: number[];
}

/**
 * Splits the rows of a layer into messages: tokens in order, experts ascending within a token, message and reply within
 * the limit. A token's entries share a message (and its row travels once) unless their replies alone exceed the limit.
 * @throws config_invalid if one row does not fit a message.
 */
export function planMessages(input: PlanInput): RowMessage[] {
  const { rowBytes, mode, maxMessageBytes } = input;
  const budget = maxMessageBytes - FIXED_BYTES;
  if (rowBytes + ROW_OVERHEAD + ENTRY_OVERHEAD > budget) {
    throw fail('config_invalid', `a row of ${rowBytes} bytes does not fit a message of ${maxMessageBytes}`);
  }
  const messages: RowMessage[] = [];
  let rows: PlannedRow[] = [];
  let requestBytes = 0;
  let replyBytes = 0;
  for (const row of plannedRows(input, mode === 'exact' ? Math.floor(budget / rowBytes) : input.topK)) {
    const request = rowBytes + ROW_OVERHEAD + row.slots.length * ENTRY_OVERHEAD;
    const reply = rowBytes * (mode === 'exact' ? row.slots.length : 1);
    if (rows.length > 0 && (requestBytes + request > budget || replyBytes + reply > budget)) {
      messages.push(toMessage(input, rows));
      [rows, requestBytes, replyBytes] = [[], 0, 0];
    }
    rows.push(row);
    requestBytes += request;
    replyBytes += reply;
  }
  if (rows.length > 0) messages.push(toMessage(input, rows));
  return messages;
}

function* plannedRows(input: PlanInput, maxEntries: number): Generator<PlannedRow> {
  const { topkIds, numTokens, topK, include } = input;
  for (let token = 0; token < numTokens; token++) {
    const slots: number[] = [];
    for (let slot = token * topK; slot < (token + 1) * topK; slot++) {
      if (!include || include(topkIds[slot] as number, slot)) slots.push(slot);
    }
    slots.sort((a, b) => (topkIds[a] as number) - (topkIds[b] as number));
    for (let first = 0; first < slots.length; first += maxEntries) {
      yield { token, slots: slots.slice(first, first + maxEntries) };
    }
  }
}

function toMessage(input: PlanInput, rows: readonly PlannedRow[]): RowMessage {
  const slots = Int32Array.from(rows.flatMap((row) => row.slots));
  return {
    rowIndex: Int32Array.from(rows, (row) => row.token),
    entryCount: Int32Array.from(rows, (row) => row.slots.length),
    experts: slots.map((slot) => input.topkIds[slot] as number),
    weights: Float32Array.from(slots, (slot) => input.topkWeights[slot] as number),
    slots,
  };
}
