import { emptyText, heldLength, type OutputParser, say, StepParser, type TextDelta } from './parser.ts';

const OPEN = '<think>';
const CLOSE = '</think>';

type State = 'start' | 'opened' | 'reasoning' | 'gap' | 'content';

/**
 * Splits the think block from the answer, as Qwen3.5 writes it: `reasoning\n</think>\n\nanswer`. Its chat template
 * ends the prompt inside the block, so the text starts there without a `<think>`; a text that does not may open one
 * itself, as its very first thing. The line breaks around the tags belong to neither part. A text that ends inside
 * the block is all reasoning.
 */
export class ReasoningParser extends StepParser implements OutputParser {
  readonly calls = 0;
  readonly ended = false;
  #state: State;

  /** `inside`: the prompt ends in an open think block. */
  constructor(inside: boolean) {
    super();
    this.#state = inside ? 'reasoning' : 'start';
  }

  finish(): TextDelta {
    const delta = emptyText();
    say(delta, this.#state === 'reasoning' ? 'reasoning' : 'content', this.held);
    this.held = '';
    return delta;
  }

  /** Moves held text on; true when the state has changed and there may be more to move. */
  protected step(delta: TextDelta): boolean {
    if (this.held === '') return false;
    if (this.#state === 'start') return this.#stepStart();
    if (this.#state === 'opened') return this.#stepOpened();
    if (this.#state === 'reasoning') return this.#stepReasoning(delta);
    if (this.#state === 'gap') return this.#stepGap();
    say(delta, 'content', this.held);
    this.held = '';
    return false;
  }

  #stepStart(): boolean {
    const text = this.held.trimStart();
    if (text.startsWith(OPEN)) {
      this.held = text.slice(OPEN.length);
      this.#state = 'opened';
      return true;
    }
    if (OPEN.startsWith(text)) return false;
    this.#state = 'content';
    return true;
  }

  /** The line break of the tag may come later than the tag. */
  #stepOpened(): boolean {
    if (this.held.startsWith('\n')) this.held = this.held.slice(1);
    this.#state = 'reasoning';
    return true;
  }

  #stepReasoning(delta: TextDelta): boolean {
    const at = this.held.indexOf(CLOSE);
    if (at >= 0) {
      say(delta, 'reasoning', this.held.slice(0, at).trimEnd());
      this.held = this.held.slice(at + CLOSE.length);
      this.#state = 'gap';
      return true;
    }
    const settled = this.held.slice(0, this.held.length - heldLength(this.held, CLOSE)).trimEnd().length;
    say(delta, 'reasoning', this.held.slice(0, settled));
    this.held = this.held.slice(settled);
    return false;
  }

  #stepGap(): boolean {
    this.held = this.held.replace(/^\n+/, '');
    if (this.held === '') return false;
    this.#state = 'content';
    return true;
  }
}
