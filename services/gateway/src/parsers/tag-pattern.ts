/** White space between tags that is looked through; a longer run means that the text is no markup. */
const MAX_SPACE = 64;
const SPACE = /\s/;

/** A run of white space, perhaps empty. */
export const SPACES = { kind: 'spaces' } as const;
/** The match counts as far as here; what follows must be there but is not part of it. */
export const MARK = { kind: 'mark' } as const;
/** The end of the whole text. */
export const END = { kind: 'end' } as const;

/** A name that ends before `end`, captured. */
export interface NameElement {
  kind: 'name';
  end: string;
  maxLength: number;
}

/** What a pattern is made of: literal text, white space, a captured name, a mark, the end. */
export type Element = string | typeof SPACES | typeof MARK | typeof END | NameElement;

/** A pattern that the text matches. */
export interface TagMatch {
  /** Where it ends in the text: at its mark, if it has one. */
  end: number;
  /** Captured names, in order. */
  names: string[];
}

/** `more`: the text ends before it is known. */
export type MatchResult = TagMatch | 'more' | 'no';

/** A captured name, up to `end`: without brackets and line breaks, so that running text is soon told from a tag. */
export function nameUntil(end: string, maxLength: number): NameElement {
  return { kind: 'name', end, maxLength };
}

/** Place of a match while it grows. */
interface Cursor {
  pos: number;
  mark: number | null;
  names: string[];
}

/**
 * Matches a pattern against text that may go on. An answer other than `more` holds whatever comes next; what is held
 * back because of `more` has a bounded length.
 * @param whole no more text comes.
 */
export function matchPattern(text: string, at: number, pattern: readonly Element[], whole: boolean): MatchResult {
  const cursor: Cursor = { pos: at, mark: null, names: [] };
  for (const element of pattern) {
    const result = typeof element === 'string' ? literal(text, cursor, element) : special(text, cursor, element, whole);
    if (result !== 'yes') return result;
  }
  return { end: cursor.mark ?? cursor.pos, names: cursor.names };
}

function literal(text: string, cursor: Cursor, expected: string): 'yes' | 'more' | 'no' {
  const there = text.slice(cursor.pos, cursor.pos + expected.length);
  if (there !== expected) return expected.startsWith(there) ? 'more' : 'no';
  cursor.pos += expected.length;
  return 'yes';
}

function special(
  text: string,
  cursor: Cursor,
  element: Exclude<Element, string>,
  whole: boolean,
): 'yes' | 'more' | 'no' {
  if (element.kind === 'name') return name(text, cursor, element);
  if (element.kind === 'mark') cursor.mark = cursor.pos;
  if (element.kind === 'spaces') {
    const begin = cursor.pos;
    while (cursor.pos < text.length && SPACE.test(text.charAt(cursor.pos))) cursor.pos += 1;
    if (cursor.pos - begin > MAX_SPACE) return 'no';
  }
  if (element.kind === 'end' && cursor.pos < text.length) return 'no';
  return element.kind === 'end' && !whole ? 'more' : 'yes';
}

function name(text: string, cursor: Cursor, { end, maxLength }: NameElement): 'yes' | 'more' | 'no' {
  const begin = cursor.pos;
  for (let pos = begin; pos < text.length; pos += 1) {
    const char = text.charAt(pos);
    if (char === end && pos > begin) {
      cursor.names.push(text.slice(begin, pos));
      cursor.pos = pos;
      return 'yes';
    }
    if (char === '<' || char === '>' || char === '\n' || char === end || pos - begin >= maxLength) return 'no';
  }
  return 'more';
}
