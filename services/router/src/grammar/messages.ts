import type { GrammarText } from '@guildhall/common/grammar';
import type { Vocabulary } from './vocabulary.ts';

/** What a thread of the grammar engine is started with. */
export interface ThreadOptions {
  vocabulary: Vocabulary;
  /** Bytes that its engine may take. */
  memoryBytes: number;
}

/** A grammar to compile. */
export interface GrammarSource {
  /** Equal sources have equal keys. */
  key: string;
  text: GrammarText;
  /** Added tokens that are no control tokens match as their text. */
  markers: boolean;
}

/** Bit (id % 32) of word (id / 32) is set for each token that may follow. */
export type TokenMask = Int32Array<ArrayBuffer>;

/**
 * What a matcher says after tokens: what may follow; `ended` after a stop token; `refused` for tokens that do not match;
 * `stuck` where nothing can follow, as in `root ::= root`.
 */
export type MatcherState = TokenMask | 'ended' | 'refused' | 'stuck';

export type ThreadCall =
  | { kind: 'compile'; source: GrammarSource }
  /** A matcher for `key`, with the tokens that were generated before. */
  | { kind: 'open'; matcher: number; key: string; stopIds: readonly number[]; tokens: Int32Array }
  /** Token tokens[i] for matcher matchers[i]. */
  | { kind: 'advance'; matchers: readonly number[]; tokens: readonly number[] }
  | { kind: 'rollback'; matcher: number; count: number };

export type ThreadMessage =
  (ThreadCall & { call: number }) | { kind: 'close'; matcher: number } | { kind: 'forget'; key: string };

export interface CompileResult {
  ms: number;
  heapBytes: number;
}

export type ThreadReply =
  | { kind: 'started' }
  | { kind: 'compiled'; call: number; result: CompileResult }
  | { kind: 'states'; call: number; states: MatcherState[] }
  /** The engine has given up, and this thread with it. */
  | { kind: 'failed'; message: string };
