import { chatLogprobs } from '../answers/logprobs.ts';
import type { ChoiceDelta } from '../choice-assembler.ts';
import type { ToolCallDelta } from '../parsers/parser.ts';
import type { TextLogprobs } from '../schema/response-items.ts';
import type { TokenSource } from '../token-text.ts';

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

/**
 * A delta of a choice as pieces of a response, in its order.
 * @param source for log-probabilities; null where none are asked for.
 */
export function piecesOf({ parts }: Pick<ChoiceDelta, 'parts'>, source: TokenSource | null): Piece[] {
  return parts.map((part) => {
    if (part.kind === 'reasoning') return { ...emptyPiece(), reasoning: part.text };
    if (part.kind === 'call') return { ...emptyPiece(), toolCalls: [part.call] };
    const logprobs = source === null ? [] : (chatLogprobs(source, part.tokens ?? []).content ?? []);
    return { ...emptyPiece(), content: part.text, logprobs };
  });
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
