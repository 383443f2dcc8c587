/** What is asked of a cluster. */
export interface Traffic {
  /** Conversations at a time whose context has its place in the KV cache. */
  users: number;
  /** Tokens of prompt and answer together, with what came before: what attention reads, and what a page is kept for. */
  context: number;
  promptTokens: number;
  outputTokens: number;
  /** Requests that arrive in a second; null: every user asks again when it has its answer. */
  requestsPerSecond: number | null;
  /** Part of the prompt's tokens that a cache has. */
  prefixHit: number;
  /** Objectives; null for none. */
  sloTtftMs: number | null;
  sloItlMs: number | null;
  /** Streams of one router at a time at most, as its memory and its settings allow. */
  maxStreams: number;
}
