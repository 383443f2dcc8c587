import { chatLogprobs } from '../answers/logprobs.ts';
import type { ChoiceDelta, LoggedToken } from '../choice-assembler.ts';
import type { ToolCallDelta } from '../parsers/parser.ts';
import type { TextLogprobs } from '../schema/response-items.ts';
import { type TokenSource, tokenText } from '../token-text.ts';

/** What some tokens add to a response; it can be written down and read back. */
export interface Piece {
  reasoning: string;
  content: string;
  toolCalls: ToolCallDelta[];
  logprobs: TextLogprobs;
}

export function emptyPiece(): Piece {
  return { reasoning: '', content: '', toolCalls: [], logprobs: [] };
}

// A delta may bring tokens that were held back, thinking among them; the text's own are its last ones.
function tokensOfText(source: TokenSource, tokens: readonly LoggedToken[], text: string): readonly LoggedToken[] {
  let left = text.length;
  let from = tokens.length;
  while (from > 0 && left > 0) {
    from -= 1;
    left -= tokenText(source, tokens[from]?.event.id ?? 0).text.length;
  }
  return tokens.slice(from);
}

/**
 * A delta of a choice as a piece of a response.
 * @param source for log-probabilities; null where none are asked for.
 */
export function pieceOf({ reasoning, content, toolCalls, tokens }: ChoiceDelta, source: TokenSource | null): Piece {
  const shown = source === null || content === '' ? [] : tokensOfText(source, tokens, content);
  const logprobs = source === null ? [] : (chatLogprobs(source, shown).content ?? []);
  return { reasoning, content, toolCalls, logprobs };
}

/** Two pieces that follow each other as one; null where the order of their parts would change. */
export function joinPieces(a: Piece, b: Piece): Piece | null {
  const rankOfFirst = b.reasoning !== '' ? 0 : b.content !== '' ? 1 : 2;
  const rankOfLast = a.toolCalls.length > 0 ? 2 : a.content !== '' ? 1 : 0;
  if (rankOfFirst < rankOfLast) return null;
  return {
    reasoning: a.reasoning + b.reasoning,
    content: a.content + b.content,
    toolCalls: joinCalls(a.toolCalls, b.toolCalls),
    logprobs: [...a.logprobs, ...b.logprobs],
  };
}

function joinCalls(a: readonly ToolCallDelta[], b: readonly ToolCallDelta[]): ToolCallDelta[] {
  const calls = [...a];
  for (const call of b) {
    const last = calls.at(-1);
    if (last === undefined || last.index !== call.index) calls.push(call);
    else calls[calls.length - 1] = { ...last, arguments: last.arguments + call.arguments };
  }
  return calls;
}

export function isEmptyPiece({ reasoning, content, toolCalls }: Piece): boolean {
  return reasoning === '' && content === '' && toolCalls.length === 0;
}
