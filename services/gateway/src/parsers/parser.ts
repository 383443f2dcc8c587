/** A piece of one tool call. The first piece of a call has its id and name; the pieces of `arguments` join to JSON. */
export interface ToolCallDelta {
  /** Place among the calls of the choice, from 0. */
  index: number;
  id?: string;
  name?: string;
  arguments: string;
}

/** What an answer says, told apart. Any part may be empty. */
export interface TextDelta {
  reasoning: string;
  content: string;
  toolCalls: ToolCallDelta[];
}

/** A delta that says nothing. */
export function emptyText(): TextDelta {
  return { reasoning: '', content: '', toolCalls: [] };
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
    return { ...emptyText(), content: text };
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
    const { reasoning, content } = this.#first.push(text);
    return { ...this.#second.push(content), reasoning };
  }

  finish(cut: boolean): TextDelta {
    const { reasoning, content } = this.#first.finish(cut);
    const rest = this.#second.push(content);
    const last = this.#second.finish(cut);
    return {
      reasoning,
      content: rest.content + last.content,
      toolCalls: [...rest.toolCalls, ...last.toolCalls],
    };
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
