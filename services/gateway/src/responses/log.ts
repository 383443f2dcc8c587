import type { ResponseStore } from '@guildhall/common';
import type { TokenLogprobs } from '../generation.ts';
import type { ResponseBuilder, ResponseEvent } from './builder.ts';
import type { Piece } from './piece.ts';

/** What was generated of a background response in a few milliseconds. */
export interface LogEntry {
  pieces: Piece[];
  /** Ids of the tokens, none where they cannot be gone on from. */
  ids: number[];
  /** Of each token, where log-probabilities are shown: the text of the last ones may come later. */
  logprobs?: TokenLogprobs[];
  /** Class that they were computed in; '' where an earlier entry says it. */
  numericsId: string;
}

/** Reads a log from entry `from` on to its present end. */
export async function readLog(store: ResponseStore, id: string, from: number): Promise<LogEntry[]> {
  const entries: LogEntry[] = [];
  for (;;) {
    const page = await store.log(id, from + entries.length);
    if (page.length === 0) return entries;
    for (const text of page) entries.push(JSON.parse(text) as LogEntry);
  }
}

/** Adds entries to a builder. */
export function addEntries(builder: ResponseBuilder, entries: readonly LogEntry[]): ResponseEvent[] {
  return entries.flatMap(({ pieces }) => pieces.flatMap((piece) => builder.add(piece)));
}
