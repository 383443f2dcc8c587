import { type ErrorCode, fail, type GuildhallError } from '@guildhall/common';

/** One entry of the closed list of reasons. */
export interface ReasonInfo {
  code: ErrorCode;
  /** What it means, for docs/api.md. */
  summary: string;
}

/** Header that carries the reason of a refusal. */
export const REASON_HEADER = 'x-guildhall-reason';

/**
 * Why a request is turned away that is well formed: the closed list. 429 is about the caller, who has to wait or to ask for less; 503
 * is about the service.
 */
export const REASONS = {
  requests_per_minute: { code: 'rate_limited', summary: 'The key or its tenant has used up its requests per minute.' },
  tokens_per_minute: { code: 'rate_limited', summary: 'The key or its tenant has used up its tokens per minute.' },
  concurrency: { code: 'rate_limited', summary: 'The key or its tenant has as many requests running as it may.' },
  too_large: {
    code: 'rate_limited',
    summary: 'The request alone is larger than the quota of a whole minute: waiting does not help.',
  },
  failed_attempts: { code: 'rate_limited', summary: 'Too many wrong keys came from this address.' },
  queue_full: { code: 'queue_full', summary: 'The gateway is busy, and as many requests wait as may.' },
  queue_timeout: { code: 'overloaded', summary: 'No place became free within the time that a request may wait.' },
  draining: { code: 'not_ready', summary: 'The gateway is shutting down; another one takes the request.' },
  no_router: { code: 'no_router', summary: 'No router that serves the model is up.' },
  unchecked: {
    code: 'redis_unavailable',
    summary: 'Redis is away, so that the key or its quota cannot be checked.',
  },
} as const satisfies Record<string, ReasonInfo>;

export type Reason = keyof typeof REASONS;

/** Makes the error of a refusal (`throw refusal(...)`). `retryAfterS` null: there is no use in trying again. */
export function refusal(reason: Reason, message: string, retryAfterS: number | null): GuildhallError {
  return fail(REASONS[reason].code, message, { details: { reason, retryAfterS } });
}

const OF_CODE: Partial<Record<ErrorCode, Reason>> = { no_router: 'no_router', not_ready: 'draining' };

/** Reason of an error that leaves the gateway, or null for one that is not of the list. */
export function reasonOf(error: GuildhallError, draining: boolean): Reason | null {
  const { reason } = error.details;
  if (typeof reason === 'string' && Object.hasOwn(REASONS, reason)) return reason as Reason;
  const known = OF_CODE[error.code] ?? null;
  return known === 'draining' && !draining ? null : known;
}
