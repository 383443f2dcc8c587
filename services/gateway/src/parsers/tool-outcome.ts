import type { OutputParser, TextDelta } from './parser.ts';

/** How a choice of a request with tools ended. */
export type ToolOutcome = 'calls' | 'text' | 'cut' | 'malformed';

/** What every form of calls begins with. */
const MARKUP = '<tool_call>';

/** A parser that tells at its end what became of tool calls. */
export class ToolOutcomeParser implements OutputParser {
  readonly #parser: OutputParser;
  readonly #tell: (outcome: ToolOutcome) => void;
  #begun = 0;
  #markup = false;
  /** End of the content in which markup may have begun. */
  #tail = '';

  constructor(parser: OutputParser, tell: (outcome: ToolOutcome) => void) {
    this.#parser = parser;
    this.#tell = tell;
  }

  get calls(): number {
    return this.#parser.calls;
  }

  get ended(): boolean {
    return this.#parser.ended;
  }

  push(text: string): TextDelta {
    return this.#seen(this.#parser.push(text));
  }

  finish(cut: boolean): TextDelta {
    const delta = this.#seen(this.#parser.finish(cut));
    this.#tell(this.#outcome());
    return delta;
  }

  #seen(delta: TextDelta): TextDelta {
    for (const part of delta.parts) {
      if (part.kind === 'call' && part.call.id !== undefined) this.#begun += 1;
      if (part.kind === 'content') this.#look(part.text);
    }
    return delta;
  }

  #look(text: string): void {
    const content = this.#tail + text;
    this.#markup ||= content.includes(MARKUP);
    this.#tail = content.slice(-(MARKUP.length - 1));
  }

  #outcome(): ToolOutcome {
    if (this.#markup) return 'malformed';
    if (this.#begun > this.calls) return 'cut';
    return this.calls > 0 ? 'calls' : 'text';
  }
}
