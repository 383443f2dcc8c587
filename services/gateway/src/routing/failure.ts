import { type ErrorCode, fail, fromGrpc, type GuildhallError } from '@guildhall/common';

/**
 * What a failed call means for the request:
 * - `lost`: the router is gone or going; another one, or the same after a restart, can go on from the token log;
 * - `busy`: this router takes no more; another one may;
 * - `unsuited`: this router cannot serve this request (other numerics class or model); another one may;
 * - `broken`: the router is well, computing this request failed; another one may fare better, once;
 * - `final`: the request itself failed; nobody else would do better.
 */
export type FailureKind = 'lost' | 'busy' | 'unsuited' | 'broken' | 'final';

const KINDS: Partial<Record<ErrorCode, FailureKind>> = {
  peer_unavailable: 'lost',
  router_lost: 'lost',
  not_ready: 'lost',
  no_router: 'lost',
  queue_full: 'busy',
  overloaded: 'busy',
  numerics_mismatch: 'unsuited',
  fingerprint_mismatch: 'unsuited',
  protocol_mismatch: 'unsuited',
  model_not_found: 'unsuited',
  computation_failed: 'broken',
};

// grpc-js reports a connection that broke under a running call as INTERNAL or CANCELLED with one of these texts.
const BROKEN_STREAM =
  /^(Received RST_STREAM|Call cancelled|Connection (dropped|error)|Stream closed|Session closed|read E[A-Z]+|write E[A-Z]+)/;
const INTERNAL = 13;
const CANCELLED = 1;

/** A failure of a Generate call, classified. Not to be asked about calls that were cancelled here. */
export interface CallFailure {
  kind: FailureKind;
  error: GuildhallError;
  /** The connection broke under the call: whatever the router did with it was under way. */
  cut: boolean;
}

/** Classifies what a Generate call threw. */
export function classifyFailure(err: unknown): CallFailure {
  const error = fromGrpc(err);
  const status: unknown = (err as { code?: unknown } | null)?.code;
  const cut = BROKEN_STREAM.test(error.message);
  const kind = KINDS[error.code];
  if (kind !== undefined) return { kind, error, cut: cut && kind === 'lost' };
  const broken = cut && (status === INTERNAL || status === CANCELLED);
  if (broken) return { kind: 'lost', error: fail('router_lost', error.message, { cause: err }), cut };
  return { kind: 'final', error, cut: false };
}
