import { fail } from '@guildhall/common';
import type { ToolSignature, ToolTable } from '../tools/tool-table.ts';
import { ANY_TYPE } from '../tools/value-types.ts';
import { AnswerText } from './answer-text.ts';
import { ArgumentWriter } from './argument-writer.ts';
import { type CallIds, CallList } from './call-list.ts';
import { emptyText, type OutputParser, say, StepParser, type TextDelta } from './parser.ts';
import { type Element, END, MARK, matchPattern, nameUntil, SPACES, type TagMatch } from './tag-pattern.ts';

const CALL = '<tool_call>';
const CALL_END = '</tool_call>';
const FUNCTION = '<function=';
const FUNCTION_END = '</function>';
const PARAMETER = '<parameter=';
const PARAMETER_END = '</parameter>';
const FUNCTION_NAME = nameUntil('>', 128);
const PARAMETER_NAME = nameUntil('>', 256);

/** The end of a function that is certainly one, since the rest of the markup follows; at the end of the text it may lack. */
const ENDINGS: readonly (readonly Element[])[] = [
  [FUNCTION_END, MARK, SPACES, CALL_END],
  [FUNCTION_END, MARK, SPACES, CALL],
  [FUNCTION_END, MARK, SPACES, FUNCTION],
  [FUNCTION_END, MARK, SPACES, END],
  [CALL_END],
];
const NEXT_PARAMETER: readonly Element[] = [PARAMETER, PARAMETER_NAME, '>'];

/** A call from its function to its first parameter or its end: one whose `<tool_call>` the model forgot. */
const BARE_CALLS = [NEXT_PARAMETER, ...ENDINGS].map((tail): readonly Element[] => [
  FUNCTION,
  FUNCTION_NAME,
  '>',
  SPACES,
  ...tail,
]);
const CALLS = BARE_CALLS.map((call): readonly Element[] => [CALL, SPACES, ...call]);

const VALUE_THEN_NEXT: readonly Element[] = [PARAMETER_END, SPACES, ...NEXT_PARAMETER];
const VALUE_THEN_END = ENDINGS.map((ending): readonly Element[] => [PARAMETER_END, SPACES, ...ending]);
/** Ends of a call whose last value lacks its end tag. */
const UNCLOSED_END: readonly (readonly Element[])[] = [
  [FUNCTION_END, MARK, SPACES, CALL_END],
  [FUNCTION_END, MARK, SPACES, END],
];

type State = 'text' | 'value-begin' | 'value' | 'after-call' | 'ended';

/** A call being read. */
interface OpenCall {
  tool: ToolSignature;
  /** Parameters that it has had. */
  given: Set<string>;
}

export interface ToolParserOptions {
  tools: ToolTable;
  /** More than one call may be made; else the answer is over with the first. */
  parallel: boolean;
  callIds: CallIds;
}

/**
 * Finds tool calls in the form of Qwen3.5 and Qwen3-Coder,
 *
 *     <tool_call>
 *     <function=NAME>
 *     <parameter=KEY>
 *     VALUE
 *     </parameter>
 *     </function>
 *     </tool_call>
 *
 * and writes their arguments as JSON while they arrive. A call begins only where the text names one of the tools and
 * its first parameter or its end follows; everything else is text. A value ends only at an end tag that further markup
 * follows, so that it may hold tags itself; one line break at either end belongs to the markup. Forgiven are: no
 * `<tool_call>` around a function that begins a line, no `</tool_call>`, no `</function>`, and no `</parameter>` before
 * a declared parameter that begins a line or before the end. A call that the end of the text breaks off has arguments
 * that stay unfinished, and is not counted.
 */
export class Qwen3XmlParser extends StepParser implements OutputParser {
  readonly #options: ToolParserOptions;
  readonly #text = new AnswerText();
  readonly #list: CallList;
  #state: State = 'text';
  #call: OpenCall | null = null;
  #writer = new ArgumentWriter(ANY_TYPE);
  /** Nothing of the value has been written, so that its first character begins a line. */
  #valueIsFresh = true;
  #whole = false;

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

  finish(cut: boolean): TextDelta {
    const delta = emptyText();
    this.#whole = true;
    while (this.step(delta));
    if (this.#state === 'value') this.#finishValue(delta, cut);
    else if (this.#state === 'text') say(delta, 'content', this.#text.push(this.held));
    this.held = '';
    say(delta, 'content', this.#text.finish());
    return delta;
  }

  /** Moves held text on; true when the state has changed and there may be more to move. */
  protected step(delta: TextDelta): boolean {
    if (this.#state === 'text') return this.#stepText(delta);
    if (this.#state === 'value-begin') return this.#stepValueBegin();
    if (this.#state === 'value') return this.#stepValue(delta);
    if (this.#state === 'after-call') return this.#stepAfterCall();
    this.held = '';
    return false;
  }

  #stepText(delta: TextDelta): boolean {
    const found = this.#find((at) => this.#callAt(at));
    say(delta, 'content', this.#text.push(this.held.slice(0, found.at)));
    this.held = this.held.slice(found.at);
    if (found.match === null) return false;
    const [name, key] = found.match.names as [string, string | undefined];
    this.#text.call();
    this.#list.begin(delta, name);
    this.held = this.held.slice(found.match.end - found.at);
    const tool = this.#options.tools.get(name) as ToolSignature;
    this.#call = { tool, given: new Set() };
    if (key === undefined) this.#endCall(delta);
    else this.#beginValue(delta, key);
    return true;
  }

  #callAt(at: number): TagMatch | 'more' | 'no' {
    const beginsLine = at === 0 ? this.#text.atLineStart : this.held[at - 1] === '\n';
    const result = this.#first(at, beginsLine ? [...CALLS, ...BARE_CALLS] : CALLS);
    if (result === 'more' || result === 'no') return result;
    return this.#options.tools.has(result.names[0] ?? '') ? result : 'no';
  }

  /** The first pattern that matches at a place; `more` while one still could. At one place only one can match. */
  #first(at: number, patterns: readonly (readonly Element[])[]): TagMatch | 'more' | 'no' {
    let open = false;
    for (const pattern of patterns) {
      const result = matchPattern(this.held, at, pattern, this.#whole);
      if (result === 'more') open = true;
      else if (result !== 'no') return result;
    }
    return open && !this.#whole ? 'more' : 'no';
  }

  /** The first place of the held text where a tag matches, or could, or the end of the text. */
  #find(matchAt: (at: number) => TagMatch | 'more' | 'no'): { at: number; match: TagMatch | null } {
    for (let at = this.held.indexOf('<'); at >= 0; at = this.held.indexOf('<', at + 1)) {
      const match = matchAt(at);
      if (match !== 'no') return { at, match: match === 'more' ? null : match };
    }
    return { at: this.held.length, match: null };
  }

  #beginValue(delta: TextDelta, key: string): void {
    const call = this.#openCall;
    const separator = call.given.size === 0 ? '{' : ',';
    call.given.add(key);
    this.#writer = new ArgumentWriter(call.tool.typesOf(key));
    this.#list.write(delta, `${separator}${JSON.stringify(key)}:`);
    this.#valueIsFresh = true;
    this.#state = 'value-begin';
  }

  get #openCall(): OpenCall {
    if (this.#call === null) throw fail('internal', 'no call is open');
    return this.#call;
  }

  #stepValueBegin(): boolean {
    if (this.held === '') return false;
    if (this.held.startsWith('\n')) this.held = this.held.slice(1);
    this.#state = 'value';
    return true;
  }

  #stepValue(delta: TextDelta): boolean {
    const found = this.#find((at) => this.#valueEndAt(at));
    // What was held back until the end of the text is the beginning of a tag.
    if (found.match === null && this.#whole) return false;
    // The last line break belongs to the markup if the value ends after it.
    const end = this.held[found.at - 1] === '\n' ? found.at - 1 : found.at;
    this.#writeValue(delta, this.held.slice(0, end));
    if (found.match === null) {
      this.held = this.held.slice(end);
      return false;
    }
    this.#list.write(delta, this.#writer.finish());
    this.held = this.held.slice(found.match.end);
    const key = found.match.names[0];
    if (key === undefined) this.#endCall(delta);
    else this.#beginValue(delta, key);
    return true;
  }

  #writeValue(delta: TextDelta, text: string): void {
    if (text === '') return;
    this.#valueIsFresh = false;
    this.#list.write(delta, this.#writer.push(text));
  }

  #valueEndAt(at: number): TagMatch | 'more' | 'no' {
    const { tool, given } = this.#openCall;
    const beginsLine = at === 0 ? this.#valueIsFresh : this.held[at - 1] === '\n';
    const next = this.#first(at, [VALUE_THEN_NEXT, ...VALUE_THEN_END]);
    const closed = typeof next === 'object' && given.has(next.names[0] ?? '') ? 'no' : next;
    if (closed !== 'no' || !beginsLine) return closed;
    const unclosed = this.#first(at, [NEXT_PARAMETER, ...UNCLOSED_END]);
    if (typeof unclosed !== 'object') return unclosed;
    const key = unclosed.names[0];
    return key === undefined || (tool.declares(key) && !given.has(key)) ? unclosed : 'no';
  }

  #endCall(delta: TextDelta): void {
    this.#list.write(delta, this.#openCall.given.size === 0 ? '{}' : '}');
    this.#list.end();
    this.#call = null;
    this.#state = this.#options.parallel ? 'after-call' : 'ended';
  }

  #stepAfterCall(): boolean {
    const rest = this.held.trimStart();
    if (rest.startsWith(CALL_END)) this.held = rest.slice(CALL_END.length);
    else if (CALL_END.startsWith(rest)) return false;
    this.#state = 'text';
    return true;
  }

  /** The text has ended inside a value: at most the tags after it are missing, or the call stays unfinished. */
  #finishValue(delta: TextDelta, cut: boolean): void {
    const tag = this.held.startsWith('\n') ? this.held.slice(1) : this.held;
    if (!tag.startsWith(PARAMETER_END)) return;
    this.#list.write(delta, this.#writer.finish());
    if (tag.trimEnd() === PARAMETER_END && !cut) this.#endCall(delta);
  }
}
