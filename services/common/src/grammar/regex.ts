import { ALL_CHARS, type CharSet, charSet, complement, intersect } from './ebnf.ts';

/** A regular expression, taken apart. */
export type RegexNode =
  | { kind: 'chars'; set: CharSet }
  /** One that stands for no character: nothing that is parsed has any. */
  | { kind: 'byte'; byte: number }
  /** What `item` matches, under bounds that events tell of: see LengthPhases. */
  | { kind: 'counted'; item: RegexNode; phases: LengthPhases }
  | { kind: 'sequence'; items: readonly RegexNode[] }
  | { kind: 'choice'; options: readonly RegexNode[] }
  | { kind: 'repeat'; item: RegexNode; min: number; max: number | null };

/**
 * Bounds of a length that somebody else counts: an event is fed when a length is reached. `least` and `most` are the
 * indices of their events; null for no bound.
 */
export interface LengthPhases {
  events: readonly (readonly number[])[];
  least: number | null;
  most: number | null;
}

/** An alternative of the whole expression. */
export interface RegexBranch {
  node: RegexNode;
  anchoredStart: boolean;
  anchoredEnd: boolean;
}

/** Most that an expression may repeat: every repetition is states of a matcher. */
export const MAX_REPEAT = 4096;
/** Groups within groups. */
const MAX_DEPTH = 48;
export const MAX_REGEX_LENGTH = 8192;

/** Why an expression cannot be used; the caller says where it stood. */
export class RegexError extends Error {}

const DIGITS: CharSet = [[0x30, 0x39]];
const WORD: CharSet = charSet([
  [0x30, 0x39],
  [0x41, 0x5a],
  [0x5f, 0x5f],
  [0x61, 0x7a],
]);
const SPACE: CharSet = charSet([
  [0x09, 0x0d],
  [0x20, 0x20],
  [0xa0, 0xa0],
  [0x1680, 0x1680],
  [0x2000, 0x200a],
  [0x2028, 0x2029],
  [0x202f, 0x202f],
  [0x205f, 0x205f],
  [0x3000, 0x3000],
  [0xfeff, 0xfeff],
]);
const LINE_ENDS: CharSet = charSet([
  [0x0a, 0x0a],
  [0x0d, 0x0d],
  [0x2028, 0x2029],
]);
const SETS: Record<string, CharSet> = {
  d: DIGITS,
  D: complement(DIGITS),
  w: WORD,
  W: complement(WORD),
  s: SPACE,
  S: complement(SPACE),
};
const CONTROLS: Record<string, number> = { n: 0x0a, r: 0x0d, t: 0x09, f: 0x0c, v: 0x0b, '0': 0 };
const HEX_LENGTHS: Record<string, number> = { x: 2, u: 4 };

/** Parses the part of the common syntax that is regular: no look-around, no references back, no word boundaries. */
class RegexParser {
  readonly #chars: readonly string[];
  #at = 0;
  #depth = 0;

  constructor(pattern: string) {
    this.#chars = Array.from(pattern);
  }

  parse(): RegexBranch[] {
    const branches: RegexBranch[] = [];
    do branches.push(this.#branch());
    while (this.#take('|'));
    if (this.#peek() !== undefined) throw this.#error(`"${this.#peek()}" is not expected`);
    return branches;
  }

  #branch(): RegexBranch {
    const anchoredStart = this.#take('^');
    const node = this.#sequence();
    const anchoredEnd = this.#take('$');
    return { node, anchoredStart, anchoredEnd };
  }

  #choice(): RegexNode {
    const options = [this.#sequence()];
    while (this.#take('|')) options.push(this.#sequence());
    return options.length === 1 ? (options[0] as RegexNode) : { kind: 'choice', options };
  }

  #sequence(): RegexNode {
    const items: RegexNode[] = [];
    for (let char = this.#peek(); char !== undefined && !'|)$'.includes(char); char = this.#peek()) {
      items.push(this.#repeated(this.#atom()));
    }
    return items.length === 1 ? (items[0] as RegexNode) : { kind: 'sequence', items };
  }

  #repeated(item: RegexNode): RegexNode {
    const bounds = this.#bounds();
    if (bounds === null) return item;
    const [min, max] = bounds;
    if (max !== null && max < min) throw this.#error(`{${min},${max}} ends before it begins`);
    if (Math.max(min, max ?? 0) > MAX_REPEAT) throw this.#error(`repeats more than ${MAX_REPEAT} times`);
    // What is lazy matches the same texts.
    this.#take('?');
    if ('*+?{'.includes(this.#peek() ?? ' ') && this.#bounds() !== null) throw this.#error('a repetition is repeated');
    return { kind: 'repeat', item, min, max };
  }

  #bounds(): [number, number | null] | null {
    if (this.#take('*')) return [0, null];
    if (this.#take('+')) return [1, null];
    if (this.#take('?')) return [0, 1];
    const rest = this.#chars.slice(this.#at, this.#at + 16).join('');
    const [text, least, comma, most] = /^\{(\d{1,5})(,?)(\d{0,5})\}/.exec(rest) ?? [];
    if (text === undefined) return null;
    this.#at += text.length;
    const min = Number(least);
    return [min, comma === '' ? min : most === '' ? null : Number(most)];
  }

  #atom(): RegexNode {
    const char = this.#next();
    if (char === '(') return this.#group();
    if (char === '[') return { kind: 'chars', set: this.#class() };
    if (char === '.') return { kind: 'chars', set: complement(LINE_ENDS) };
    if (char === '\\') return { kind: 'chars', set: this.#escape(false) };
    if (char === '^') throw this.#error('"^" is supported at the beginning only');
    if ('*+?'.includes(char)) throw this.#error(`"${char}" has nothing to repeat`);
    return { kind: 'chars', set: single(char) };
  }

  #group(): RegexNode {
    if (++this.#depth > MAX_DEPTH) throw this.#error(`groups are nested more than ${MAX_DEPTH} deep`);
    if (this.#take('?')) this.#groupKind();
    const node = this.#choice();
    if (this.#peek() === '$') throw this.#error('"$" is supported at the end only');
    if (!this.#take(')')) throw this.#error('a group is not closed');
    this.#depth -= 1;
    return node;
  }

  #groupKind(): void {
    if (this.#take(':')) return;
    this.#take('P');
    if (!this.#take('<') || ['=', '!'].includes(this.#peek() ?? '')) {
      throw this.#error('look-around and flags are not supported');
    }
    while (this.#next() !== '>');
  }

  #class(): CharSet {
    const negated = this.#take('^');
    const ranges: (readonly [number, number])[] = [];
    while (this.#peek() !== ']') {
      const low = this.#classItem();
      const isRange = this.#peek() === '-' && this.#chars[this.#at + 1] !== ']' && low.length === 1;
      if (!isRange) {
        ranges.push(...low);
        continue;
      }
      this.#at += 1;
      const [from] = low[0] as readonly [number, number];
      const high = this.#classItem();
      const [to, end] = high[0] as readonly [number, number];
      if (high.length !== 1 || to !== end || to < from) throw this.#error('a range ends before it begins');
      ranges.push([from, to]);
    }
    this.#at += 1;
    const set = intersect(charSet(ranges), ALL_CHARS);
    const result = negated ? complement(set) : set;
    if (result.length === 0) throw this.#error('a class has no characters');
    return result;
  }

  #classItem(): CharSet {
    const char = this.#next();
    return char === '\\' ? this.#escape(true) : single(char);
  }

  #escape(inClass: boolean): CharSet {
    const char = this.#next();
    const set = SETS[char];
    if (set !== undefined) return set;
    const control = CONTROLS[char] ?? (inClass && char === 'b' ? 0x08 : undefined);
    if (control !== undefined) return [[control, control]];
    const length = HEX_LENGTHS[char];
    if (length !== undefined) return this.#hex(length);
    if (/^[A-Za-z0-9]$/.test(char)) throw this.#error(`"\\${char}" is not supported`);
    return single(char);
  }

  #hex(length: number): CharSet {
    const rest = this.#chars.slice(this.#at, this.#at + 10).join('');
    const [text, braced, plain] = new RegExp(`^(?:\\{([0-9a-fA-F]{1,6})\\}|([0-9a-fA-F]{${length}}))`).exec(rest) ?? [];
    const code = Number.parseInt(braced ?? plain ?? '', 16);
    if (text === undefined || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) {
      throw this.#error('an escape names no character');
    }
    this.#at += text.length;
    return [[code, code]];
  }

  #peek(): string | undefined {
    return this.#chars[this.#at];
  }

  #next(): string {
    const char = this.#chars[this.#at++];
    if (char === undefined) throw this.#error('it ends too early');
    return char;
  }

  #take(char: string): boolean {
    if (this.#chars[this.#at] !== char) return false;
    this.#at += 1;
    return true;
  }

  #error(message: string): RegexError {
    return new RegexError(`at character ${this.#at}: ${message}`);
  }
}

function single(char: string): CharSet {
  const code = char.codePointAt(0) as number;
  if (code >= 0xd800 && code <= 0xdfff) throw new RegexError('half of a surrogate pair is no character');
  return [[code, code]];
}

/** Takes a regular expression apart. Throws RegexError. */
export function parseRegex(pattern: string): RegexBranch[] {
  if (pattern.length > MAX_REGEX_LENGTH) throw new RegexError(`longer than ${MAX_REGEX_LENGTH} characters`);
  return new RegexParser(pattern).parse();
}

/** Steps that a matcher needs for a node, about: repetitions multiply. */
export function regexSize(node: RegexNode): number {
  if (node.kind === 'chars' || node.kind === 'byte') return 1;
  if (node.kind === 'counted') return regexSize(node.item);
  if (node.kind === 'repeat') return regexSize(node.item) * Math.max(1, node.min, node.max ?? 0);
  return (node.kind === 'sequence' ? node.items : node.options).reduce((sum, item) => sum + regexSize(item), 1);
}
