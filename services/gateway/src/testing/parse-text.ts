import assert from 'node:assert/strict';
import {
  emptyText,
  type OutputParser,
  sayAll,
  type TextDelta,
  textOf,
  type TextPart,
  type ToolCallDelta,
} from '../parsers/parser.ts';

/** A call put together from its pieces. */
export interface ParsedCall {
  id: string;
  name: string;
  arguments: string;
}

/** What a parser made of a whole text. */
export interface ParsedText {
  reasoning: string;
  content: string;
  calls: ParsedCall[];
  /** All of it in its order, neighbours of a kind as one. */
  parts: TextPart[];
  /** Calls that the parser says are complete. */
  complete: number;
}

/** Cuts a text at places given as shares of its length. */
export function cutAt(text: string, shares: readonly number[]): string[] {
  const places = [...new Set([0, ...shares.map((share) => Math.floor(share * text.length)), text.length])].toSorted(
    (a, b) => a - b,
  );
  return places.slice(1).map((end, i) => text.slice(places[i], end));
}

/** Every delta of a text that arrives in the given pieces. */
export function deltasOf(parser: OutputParser, pieces: readonly string[], cut = false): TextDelta[] {
  return [...pieces.map((piece) => parser.push(piece)), parser.finish(cut)];
}

/** Joins deltas as clients do. The first piece of a call has its id and name and no arguments; calls follow each other. */
export function join(deltas: readonly TextDelta[]): Omit<ParsedText, 'complete'> {
  const whole = emptyText();
  const calls: ParsedCall[] = [];
  for (const delta of deltas) {
    sayAll(whole, delta);
    for (const part of delta.parts) if (part.kind === 'call') addCall(calls, part.call);
  }
  const { parts } = whole;
  return { reasoning: textOf(whole, 'reasoning'), content: textOf(whole, 'content'), calls, parts };
}

function addCall(calls: ParsedCall[], { index, id, name, arguments: json }: ToolCallDelta): void {
  if (index === calls.length) {
    assert.ok(id !== undefined && name !== undefined, 'the first piece names the call');
    assert.equal(json, '', 'the first piece has no arguments');
    calls.push({ id, name, arguments: '' });
    return;
  }
  assert.equal(index, calls.length - 1, 'a call that has ended gets nothing more');
  assert.deepEqual([id, name], [undefined, undefined]);
  (calls[index] as ParsedCall).arguments += json;
}

/** Runs a text through a parser in the given pieces. */
export function parse(parser: OutputParser, pieces: readonly string[], cut = false): ParsedText {
  const joined = join(deltasOf(parser, pieces, cut));
  return { ...joined, complete: parser.calls };
}
