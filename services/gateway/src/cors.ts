import { REASON_HEADER } from './limits/reasons.ts';

/** Headers of answers that scripts of other origins may read. */
export const EXPOSED_HEADERS: readonly string[] = [
  'x-request-id',
  'retry-after',
  REASON_HEADER,
  ...['requests', 'tokens'].flatMap((what) =>
    ['limit', 'remaining', 'reset'].map((kind) => `x-ratelimit-${kind}-${what}`),
  ),
];
