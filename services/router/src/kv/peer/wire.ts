import { fail, fromGrpc, type GuildhallError, isGuildhallError } from '@guildhall/common';
import { pages } from '@guildhall/proto';
import type { BlobKind, CacheFault } from '../blob.ts';

/** Bytes of a blob in one message at most. */
export const PART_BYTES = 256 << 10;
/** Names in one request at most: the pages of a million tokens. */
export const MAX_NAMES = 16_384;
/** Room for a part, or for the head of a page of many tokens. */
export const PEER_MESSAGE_BYTES = 1 << 20;

/**
 * Why a transfer was given up. `corrupt`: not what was asked for (order, kind, name, size, tokens); `refused`: the two
 * routers do not fit together; `busy`: the holder serves as many others as it may.
 */
export type PullFault =
  Extract<CacheFault, 'corrupt' | 'truncated' | 'checksum' | 'stalled' | 'holder_gone'> | 'refused' | 'busy';

const WIRE_KINDS: Readonly<Record<BlobKind, pages.BlobKind>> = {
  page: pages.BlobKind.BLOB_KIND_PAGE,
  state: pages.BlobKind.BLOB_KIND_STATE,
};

export function toWireKind(kind: BlobKind): pages.BlobKind {
  return WIRE_KINDS[kind];
}

/** An error that says which fault it is. */
export function pullFault(fault: PullFault, detail: string): GuildhallError {
  return fail('peer_unavailable', detail, { details: { fault } });
}

/** The error for a sender that is too slow. */
export function stalled(detail: string): GuildhallError {
  return pullFault('stalled', detail);
}

/** True for faults of a transfer; the others are no fault of anybody. */
export function isCacheFault(fault: PullFault): fault is Exclude<PullFault, 'refused' | 'busy'> {
  return fault !== 'refused' && fault !== 'busy';
}

const FAULT_OF_CODE: Record<string, PullFault> = {
  fingerprint_mismatch: 'refused',
  numerics_mismatch: 'refused',
  protocol_mismatch: 'refused',
  unauthorized: 'refused',
  unsupported: 'refused',
  invalid_value: 'refused',
  overloaded: 'busy',
  peer_unavailable: 'holder_gone',
  cancelled: 'holder_gone',
  not_ready: 'holder_gone',
  not_found: 'holder_gone',
  deadline_exceeded: 'stalled',
};

/** The fault behind anything that a transfer threw. */
export function faultOf(err: unknown): { fault: PullFault; detail: string } {
  const known = isGuildhallError(err) ? err : fromGrpc(err);
  const own = known.details['fault'] as PullFault | undefined;
  // What is left are streams that broke as no router breaks them off.
  return { fault: own ?? FAULT_OF_CODE[known.code] ?? 'corrupt', detail: known.message };
}
