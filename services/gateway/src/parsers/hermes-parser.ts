import { AnswerText } from './answer-text.ts';
import { CallList } from './call-list.ts';
import { JsonRepair } from './json-repair.ts';
import { emptyText, type OutputParser, say, StepParser, type TextDelta } from './parser.ts';
import type { ToolParserOptions } from './qwen3-xml-parser.ts';
import { type Element, matchPattern, nameUntil, SPACES } from './tag-pattern.ts';

const CALL_END = '</tool_call>';

const HEAD: readonly Element[] = [
  '<tool_call>',
  SPACES,
  '{',
  SPACES,
  '"name"',
  SPACES,
  ':',
  SPACES,
  '"',
  nameUntil('"', 128),
  '"',
  SPACES,
  ',',
  SPACES,
  '"arguments"',
  SPACES,
  ':',
  SPACES,
  '{',
];
/** After the arguments; the end of the text may stand for any of it. */
const TAIL: readonly Element[] = [SPACES, '}', SPACES, CALL_END];

type State = 'text' | 'arguments' | 'after-call' | 'ended';

/**
 * Finds tool calls in the form of Hermes, Qwen2.5 and Qwen3: `<tool_call>\n{"name": …, "arguments": {…}}\n</tool_call>`.
 * A call begins only where the text names one of the tools and its arguments begin; everything else is text.
 */
export class HermesParser extends StepParser implements OutputParser {
  readonly #options: ToolParserOptions;
  readonly #text = new AnswerText();
  readonly #list: CallList;
  #state: State = 'text';
  #json = new JsonRepair();

  constructor(options: ToolParserOptions) {
    super();
    this.#options = options;
    this.#list = new CallList(options.callIds);
  }

  get calls(): number {
    return this.#list.complete;
  }

  get ended(): boolean {
    return this.#state === 'ended';
  }

  finish(): TextDelta {
    const delta = emptyText();
    if (this.#state === 'text') say(delta, 'content', this.#text.push(this.held));
    this.held = '';
    say(delta, 'content', this.#text.finish());
    return delta;
  }

  protected step(delta: TextDelta): boolean {
    if (this.#state === 'text') return this.#stepText(delta);
    if (this.#state === 'arguments') return this.#stepArguments(delta);
    if (this.#state === 'after-call') return this.#stepAfterCall();
    this.held = '';
    return false;
  }

  #stepText(delta: TextDelta): boolean {
    let at = this.held.indexOf('<');
    for (; at >= 0; at = this.held.indexOf('<', at + 1)) {
      const head = matchPattern(this.held, at, HEAD, false);
      if (head === 'more') break;
      if (head === 'no' || !this.#options.tools.has(head.names[0] ?? '')) continue;
      say(delta, 'content', this.#text.push(this.held.slice(0, at)));
      this.#text.call();
      this.#list.begin(delta, head.names[0] ?? '');
      // The arguments begin with the brace that the head ends with.
      this.held = this.held.slice(head.end - 1);
      this.#json = new JsonRepair();
      this.#state = 'arguments';
      return true;
    }
    const end = at < 0 ? this.held.length : at;
    say(delta, 'content', this.#text.push(this.held.slice(0, end)));
    this.held = this.held.slice(end);
    return false;
  }

  #stepArguments(delta: TextDelta): boolean {
    const { json, rest } = this.#json.push(this.held);
    this.#list.write(delta, json);
    this.held = rest;
    if (!this.#json.done) return false;
    this.#list.end();
    this.#state = this.#options.parallel ? 'after-call' : 'ended';
    return true;
  }

  #stepAfterCall(): boolean {
    const tail = matchPattern(this.held, 0, TAIL, false);
    if (tail === 'more') return false;
    if (tail !== 'no') this.held = this.held.slice(tail.end);
    this.#state = 'text';
    return true;
  }
}
