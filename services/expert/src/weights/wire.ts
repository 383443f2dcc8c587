import { fail, fromGrpc, type GuildhallError, isGuildhallError } from '@guildhall/common';

/** Bytes of weights in one message at most. */
export const PART_BYTES = 256 << 10;
/** Experts in one request at most. */
export const MAX_EXPERTS_PER_FETCH = 64;
/** Room for a part, and for the description of a checkpoint of thousands of files. */
export const WEIGHTS_MESSAGE_BYTES = 8 << 20;

/** CRC-32C of each part. */
export type Checksum = (parts: readonly Uint8Array[]) => Promise<Uint32Array>;

/**
 * Why a transfer was given up. `absent`: the holder does not have it after all; `corrupt`: not what was asked for, or a
 * wrong checksum; `refused`: the two do not fit together; `busy`: the holder serves as many others as it may.
 */
export type TransferFault = 'absent' | 'corrupt' | 'stalled' | 'gone' | 'refused' | 'busy';

const FAULT_OF_CODE: Record<string, TransferFault> = {
  fingerprint_mismatch: 'refused',
  protocol_mismatch: 'refused',
  unauthorized: 'refused',
  unsupported: 'refused',
  invalid_value: 'refused',
  method_not_allowed: 'refused',
  overloaded: 'busy',
  queue_full: 'busy',
  rate_limited: 'busy',
  body_too_large: 'busy',
  not_found: 'absent',
  checkpoint_not_found: 'absent',
  checkpoint_invalid: 'absent',
  checkpoint_partial: 'absent',
  deadline_exceeded: 'stalled',
};

/** An error that says which fault it is. */
export function transferFault(fault: TransferFault, detail: string): GuildhallError {
  return fail('peer_unavailable', detail, { details: { fault } });
}

/** The fault behind anything that a transfer threw. */
export function faultOf(err: unknown): { fault: TransferFault; detail: string } {
  const known = isGuildhallError(err) ? err : fromGrpc(err);
  const own = known.details['fault'] as TransferFault | undefined;
  return { fault: own ?? FAULT_OF_CODE[known.code] ?? 'gone', detail: known.message };
}

/** Views on consecutive parts of `bytes`. */
export function partsOf(bytes: Uint8Array, partBytes: number): Uint8Array[] {
  const parts: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += partBytes) parts.push(bytes.subarray(at, at + partBytes));
  return parts;
}
