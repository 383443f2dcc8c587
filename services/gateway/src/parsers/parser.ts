/** Text of an answer, told apart. Either part may be empty. */
export interface TextDelta {
  reasoning: string;
  content: string;
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
    return { reasoning: '', content: text };
  }

  finish(): TextDelta {
    return { reasoning: '', content: '' };
  }
}

/** Length of the longest end of `text` that could become `tag` when more text comes; shorter than the tag. */
export function heldLength(text: string, tag: string): number {
  for (let length = Math.min(text.length, tag.length - 1); length > 0; length -= 1) {
    if (tag.startsWith(text.slice(text.length - length))) return length;
  }
  return 0;
}
