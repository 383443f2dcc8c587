import { fail, type GuildhallError, isGuildhallError } from '@guildhall/common';

/** What is known of an answer that is no success. */
export interface ApiFailure {
  /** HTTP status; 0 when there was no answer. */
  status: number;
  /** `reason` of the Status object, such as Conflict or Expired; empty without one. */
  reason: string;
  /** How long the server asks to wait, in ms; null when it does not say. */
  retryAfterMs: number | null;
}

/** Statuses after which the same request may succeed. */
const TRANSIENT = new Set([0, 408, 429]);

/** The error of a request that failed: `kubernetes_unavailable` where trying again may help, else `kubernetes_refused`. */
export function apiError(what: string, failure: ApiFailure, message: string, cause?: unknown): GuildhallError {
  const { status } = failure;
  const transient = TRANSIENT.has(status) || status >= 500;
  const answer = status === 0 ? 'no answer' : String(status);
  return fail(transient ? 'kubernetes_unavailable' : 'kubernetes_refused', `${what}: ${answer}: ${message}`, {
    details: { ...failure },
    cause,
  });
}

/** The answer behind an error; for anything else as if there had been none. */
export function apiFailureOf(err: unknown): ApiFailure {
  const details = isGuildhallError(err) ? (err.details as Partial<ApiFailure>) : {};
  return { status: details.status ?? 0, reason: details.reason ?? '', retryAfterMs: details.retryAfterMs ?? null };
}
