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
  /** What was held back, when the text has ended. */
  finish(): TextDelta;
}

/** Everything is content. */
export class PassthroughParser implements OutputParser {
  push(text: string): TextDelta {
    return { ...emptyText(), content: text };
  }

  finish(): TextDelta {
    return emptyText();
  }
}

/** Length of the longest end of `text` that could become `tag` when more text comes; shorter than the tag. */
export function heldLength(text: string, tag: string): number {
  for (let length = Math.min(text.length, tag.length - 1); length > 0; length -= 1) {
    if (tag.startsWith(text.slice(text.length - length))) return length;
  }
  return 0;
}
