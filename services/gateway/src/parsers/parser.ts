/** A piece of one tool call. The first piece of a call has its id and name; the pieces of `arguments` join to JSON. */
export interface ToolCallDelta {
  /** Place among the calls of the choice, from 0. */
  index: number;
  id?: string;
  name?: string;
  arguments: string;
}

/** A piece of what an answer says. Texts are never empty. */
export type TextPart =
  { kind: 'reasoning'; text: string } | { kind: 'content'; text: string } | { kind: 'call'; call: ToolCallDelta };

type TextKind = 'reasoning' | 'content';

/** What an answer says, told apart, in the order in which it says it. */
export interface TextDelta {
  parts: TextPart[];
}

/** A delta that says nothing. */
export function emptyText(): TextDelta {
  return { parts: [] };
}

/** Adds text to a delta; it joins a last part of its kind. */
export function say({ parts }: TextDelta, kind: TextKind, text: string): void {
  if (text === '') return;
  const last = parts.at(-1);
  if (last?.kind === kind) parts[parts.length - 1] = { kind, text: last.text + text };
  else parts.push({ kind, text });
}

/** Adds a piece of a call. The first piece of a call stays alone, as clients expect it; others join. */
export function sayCall({ parts }: TextDelta, call: ToolCallDelta): void {
  const last = parts.at(-1);
  if (last?.kind !== 'call' || last.call.index !== call.index || last.call.id !== undefined) {
    parts.push({ kind: 'call', call });
    return;
  }
  parts[parts.length - 1] = { kind: 'call', call: { ...last.call, arguments: last.call.arguments + call.arguments } };
}

/** Adds what another delta says. */
export function sayAll(delta: TextDelta, more: TextDelta): void {
  for (const part of more.parts) {
    if (part.kind === 'call') sayCall(delta, part.call);
    else say(delta, part.kind, part.text);
  }
}

/** All texts of a kind, joined. */
export function textOf({ parts }: TextDelta, kind: TextKind): string {
  return parts.map((part) => (part.kind === kind ? part.text : '')).join('');
}

/** Turns the raw text of one choice into deltas, piece by piece. The same text gives the same sums whatever its pieces. */
export interface OutputParser {
  push(text: string): TextDelta;
  /**
   * What was held back, when the text has ended.
   * @param cut the text was cut by a limit: it did not come to an end of its own.
   */
  finish(cut: boolean): TextDelta;
  /** Tool calls that are complete. */
  readonly calls: number;
  /** Nothing that comes later can belong to the answer: it is over. */
  readonly ended: boolean;
}

/** Everything is content. */
export class PassthroughParser implements OutputParser {
  readonly calls = 0;
  readonly ended = false;

  push(text: string): TextDelta {
    const delta = emptyText();
    say(delta, 'content', text);
    return delta;
  }

  finish(): TextDelta {
    return emptyText();
  }
}

/** One parser's content is the text of the next: the think block is told apart first, calls are looked for after it. */
export class ChainedParser implements OutputParser {
  readonly #first: OutputParser;
  readonly #second: OutputParser;

  constructor(first: OutputParser, second: OutputParser) {
    this.#first = first;
    this.#second = second;
  }

  get calls(): number {
    return this.#second.calls;
  }

  get ended(): boolean {
    return this.#second.ended;
  }

  push(text: string): TextDelta {
    return this.#through(this.#first.push(text));
  }

  finish(cut: boolean): TextDelta {
    const delta = this.#through(this.#first.finish(cut));
    sayAll(delta, this.#second.finish(cut));
    return delta;
  }

  /** What the first parser says, with its content as the second one says it. */
  #through({ parts }: TextDelta): TextDelta {
    const delta = emptyText();
    for (const part of parts) sayAll(delta, part.kind === 'content' ? this.#second.push(part.text) : { parts: [part] });
    return delta;
  }
}

/** Length of the longest end of `text` that could become `tag` when more text comes; shorter than the tag. */
export function heldLength(text: string, tag: string): number {
  for (let length = Math.min(text.length, tag.length - 1); length > 0; length -= 1) {
    if (tag.startsWith(text.slice(text.length - length))) return length;
  }
  return 0;
}

/** What parsers that go through their text in steps share. */
export abstract class StepParser {
  /** Text that no step has taken yet. */
  protected held = '';

  push(text: string): TextDelta {
    const delta = emptyText();
    this.held += text;
    while (this.step(delta));
    return delta;
  }

  /** Takes something of the held text; true when there may be more to take. */
  protected abstract step(delta: TextDelta): boolean;
}
