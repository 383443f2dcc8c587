import type { NewKey } from '../accounts/key-store.ts';

/** A key without a limit of any kind. */
export const PLAIN_KEY: NewKey = {
  name: 'ci',
  labels: {},
  tenant: null,
  expiresAtMs: null,
  models: null,
  priority: 0,
  priorityCap: null,
  requestsPerMinute: null,
  tokensPerMinute: null,
  concurrency: null,
};
