import { type Branch, deterministicText, type RuleWriter } from './automaton.ts';
import { ALL_CHARS, charSet, complement, intersect, literal } from './ebnf.ts';
import { choice, optionally, PLAIN_CHARS, sequence, textNode } from './nodes.ts';
import type { RegexNode } from './regex.ts';
import { isObject, SchemaError } from './schema-keywords.ts';

/**
 * Lengths of strings are counted by whoever feeds the engine, not in its states: each position of a counted repetition
 * would get a mask over the whole vocabulary. Where a string has reached a length that a schema names, three bytes are fed
 * that tell of it, and the grammar goes on in another rule: one where the string may end, or has to. No text has these
 * bytes, and no token with one of them is ever sampled.
 */
export interface StringLengths {
  /** Lengths that minLength or maxLength name, in characters; ascending. */
  all: readonly number[];
  /** Those of maxLength. */
  maxima: readonly number[];
}

/** May stand where a counted string begins, once. */
export const BEGIN_BYTE = 0xff;
const EVENT_BYTE = 0xfe;
/** The other bytes that UTF-8 never has; two of them number an event. */
const NUMBER_BYTES = [0xc0, 0xc1, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa, 0xfb, 0xfc, 0xfd];
export const IMPOSSIBLE_BYTES: ReadonlySet<number> = new Set([...NUMBER_BYTES, EVENT_BYTE, BEGIN_BYTE]);
const MAX_LENGTHS = NUMBER_BYTES.length ** 2;

function numberBytes(index: number): number[] {
  const { length } = NUMBER_BYTES;
  return [NUMBER_BYTES[Math.floor(index / length)] as number, NUMBER_BYTES[index % length] as number];
}

/** What is fed when a string has the length `lengths.all[index]`. */
export function lengthEvent(index: number): readonly number[] {
  return [EVENT_BYTE, ...numberBytes(index)];
}

/** Lengths that any schema within a JSON value names; null for none. Throws SchemaError for more than there are events. */
export function lengthsIn(value: unknown, place: string): StringLengths | null {
  const [least, most] = [new Set<number>(), new Set<number>()];
  collect(value, least, most);
  const ascending = (set: Iterable<number>): number[] => [...set].sort((a, b) => a - b);
  const all = ascending(new Set([...least, ...most]));
  if (all.length > MAX_LENGTHS) {
    const why = `keywords "minLength" and "maxLength" have more than ${MAX_LENGTHS} different values`;
    throw new SchemaError('unsupported', place, why);
  }
  return all.length === 0 ? null : { all, maxima: ascending(most) };
}

function collect(root: unknown, least: Set<number>, most: Set<number>): void {
  // A list instead of recursion: values may be as deep as a request makes them.
  const pending = [root];
  for (let value = pending.pop(); value !== undefined; value = pending.pop()) {
    if (Array.isArray(value)) for (const entry of value as unknown[]) pending.push(entry);
    if (!isObject(value)) continue;
    for (const [key, entry] of Object.entries(value)) {
      const into = key === 'minLength' ? least : key === 'maxLength' ? most : null;
      if (into !== null && typeof entry === 'number' && Number.isSafeInteger(entry) && entry > 0) into.add(entry);
      else pending.push(entry);
    }
  }
}

/** How strings are written: between quotes as in JSON, or as a line of plain text that begins after a line break. */
export interface StringForm {
  name: string;
  begin: string;
  /** One character, with no byte that is not UTF-8, so that bytes can be counted. */
  character: RegexNode;
  end: string;
}

/** A character in JSON, in few spellings. */
const JSON_CHARACTER: RegexNode = choice(
  { kind: 'chars', set: PLAIN_CHARS },
  sequence(textNode('\\'), {
    kind: 'chars',
    set: charSet(Array.from('"/\\bfnrt', (char) => [char.charCodeAt(0), char.charCodeAt(0)])),
  }),
);
const EVENT: RegexNode = { kind: 'byte', byte: EVENT_BYTE };
const JSON_STRING: StringForm = { name: 'json', begin: '"\\""', character: JSON_CHARACTER, end: '"' };
export const LINE_CHARS = intersect(ALL_CHARS, complement([[0x0a, 0x0a]]));
export const LINE: StringForm = { name: 'line', begin: '', character: { kind: 'chars', set: LINE_CHARS }, end: '\n' };
export const EMPTY_STRING = '"\\"\\""';
/** The engine takes a byte above 127 alone in its class for a character. */
const BEGIN = '([\\xFF\\xFF])?';

function bytesNode(bytes: readonly number[]): RegexNode {
  return sequence(...bytes.map((byte): RegexNode => ({ kind: 'byte', byte })));
}

/**
 * Writes strings of bounded lengths for one grammar. Only the rules that go on to the next event or to the end of the
 * string have masks of many tokens, and all strings share them.
 */
export class StringRules {
  readonly lengths: StringLengths;
  readonly #rules: RuleWriter;
  readonly #known = new Map<string, string>();

  constructor(lengths: StringLengths, rules: RuleWriter) {
    this.lengths = lengths;
    this.#rules = rules;
  }

  /** A string without bounds: events change nothing in it. */
  unbounded(): string {
    const name = this.#shared('unbounded', (self) => {
      return `string_rest | ${this.#anyTextToEvent()} ${this.#next(new Map(), self)}`;
    });
    return `${JSON_STRING.begin} ${name}`;
  }

  /** A string of `least` to `most` characters, 1 at least; null for no upper bound. */
  bounded(least: number, most: number | null, form = JSON_STRING): string {
    const { name } = form;
    const end = literal(form.end);
    const leads = new Map<number, string>(most === null ? [] : [[most, end]]);
    const open = (): string =>
      this.#shared(`${name} open ${most}`, (self) => {
        return `${this.#textToEnd(form)} | ${this.#textToEvent(form)} ${this.#next(leads, self)}`;
      });
    if (least === 0) return `${form.begin} ${BEGIN} ${open()}`;
    const then = least === most ? end : open();
    const short = this.#shared(`${name} short ${least} ${most}`, (self) => {
      return `${this.#textToEvent(form)} ${this.#next(new Map([[least, then]]), self)}`;
    });
    return `${form.begin} ${BEGIN} ${short}`;
  }

  /**
   * A string of `least` to `most` characters that `node` matches, in the form's spelling. Throws RegexError and
   * EffortError for what is too large.
   */
  matching(node: RegexNode, least: number, most: number | null, form = JSON_STRING): string {
    const indexOf = (length: number | null): number | null =>
      length === null || length === 0 ? null : this.lengths.all.indexOf(length);
    const events = this.lengths.all.map((_, i) => lengthEvent(i));
    const phases = { events, least: indexOf(least), most: indexOf(most) };
    const counted: RegexNode = { kind: 'counted', item: node, phases };
    const rest = deterministicText([{ node: sequence(counted, textNode(form.end)), rest: '' }], this.#rules);
    return `${form.begin} ${BEGIN} ${rest}`;
  }

  /** A given string, in which events of its lengths may stand. */
  given(value: string): RegexNode {
    const parts: RegexNode[] = [textNode('"')];
    for (const [i, char] of Array.from(value).entries()) {
      parts.push(textNode(JSON.stringify(char).slice(1, -1)));
      const event = this.lengths.all.indexOf(i + 1);
      if (event >= 0) parts.push(optionally(bytesNode(lengthEvent(event))));
    }
    return sequence(...parts, textNode('"'));
  }

  /** The number of an event, and where it leads: `others` unless `leads` says something else. */
  #next(leads: ReadonlyMap<number, string>, others: string): string {
    const branches = this.lengths.all.map((length, i): Branch => {
      return { node: bytesNode(numberBytes(i)), rest: leads.get(length) ?? others };
    });
    return deterministicText(branches, this.#rules);
  }

  #textToEnd(form: StringForm): string {
    const end: Branch = { node: textNode(form.end), rest: '' };
    return this.#shared(`${form.name} to end`, (self) => this.#characters(form, self, end));
  }

  #textToEvent(form: StringForm): string {
    const end: Branch = { node: EVENT, rest: '' };
    return this.#shared(`${form.name} to event`, (self) => this.#characters(form, self, end));
  }

  #characters({ character }: StringForm, self: string, end: Branch): string {
    return deterministicText([{ node: character, rest: self }, end], this.#rules);
  }

  /** As above, with every spelling that a string may have. */
  #anyTextToEvent(): string {
    return this.#shared('any to event', (self) => {
      return `[\\xFE\\xFE] | [^"\\\\\\x00-\\x1f] ${self} | "\\\\" escape ${self}`;
    });
  }

  #shared(key: string, write: (self: string) => string): string {
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const name = this.#rules.reserve();
    this.#known.set(key, name);
    this.#rules.define(name, write(name));
    return name;
  }
}
