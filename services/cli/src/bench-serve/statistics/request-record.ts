import type { RequestFailure } from '../client/errors.ts';

/** What is known of one request when it has ended. Times are milliseconds on the monotonic clock. */
export interface RequestRecord {
  /** When it should have been sent: what its times are counted from. */
  dueMs: number;
  sentMs: number;
  firstTokenMs: number | null;
  lastTokenMs: number | null;
  endMs: number;
  promptTokens: number;
  cachedTokens: number;
  outputTokens: number;
  /** True when the server counted the tokens. */
  counted: boolean;
  /** Pieces with text that the answer came in. */
  chunks: number;
  gapsMs: readonly number[];
  failure: RequestFailure | 'aborted' | null;
}

/**
 * Time per output token after the first, the field's TPOT: from the first to the last token over the number of tokens less
 * one. Null with fewer than two tokens.
 */
export function tpotMs({ firstTokenMs, lastTokenMs, outputTokens }: RequestRecord): number | null {
  if (firstTokenMs === null || lastTokenMs === null || outputTokens < 2) return null;
  return (lastTokenMs - firstTokenMs) / (outputTokens - 1);
}
