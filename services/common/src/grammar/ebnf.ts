/** Ranges of code points, both ends included; ascending and apart. */
export type CharSet = readonly (readonly [number, number])[];

export const LAST_CODE_POINT = 0x10ffff;
/** Every character: no half of a surrogate pair. */
export const ALL_CHARS: CharSet = [
  [0, 0xd7ff],
  [0xe000, LAST_CODE_POINT],
];

/** Sorts ranges and joins those that touch. */
export function charSet(ranges: Iterable<readonly [number, number]>): CharSet {
  const joined: [number, number][] = [];
  for (const [low, high] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const last = joined.at(-1);
    if (last !== undefined && low <= last[1] + 1) last[1] = Math.max(last[1], high);
    else joined.push([low, high]);
  }
  return joined;
}

/** Characters of `a` that are in `b` too. */
export function intersect(a: CharSet, b: CharSet): CharSet {
  return charSet(
    a.flatMap(([low, high]) =>
      b.flatMap(([from, to]): [number, number][] =>
        Math.max(low, from) <= Math.min(high, to) ? [[Math.max(low, from), Math.min(high, to)]] : [],
      ),
    ),
  );
}

/** Every character that is not in the set. */
export function complement(set: CharSet): CharSet {
  const rest: [number, number][] = [];
  let next = 0;
  for (const [low, high] of charSet(set)) {
    if (low > next) rest.push([next, low - 1]);
    next = high + 1;
  }
  if (next <= LAST_CODE_POINT) rest.push([next, LAST_CODE_POINT]);
  return intersect(rest, ALL_CHARS);
}

function escaped(codePoint: number): string {
  const char = String.fromCodePoint(codePoint);
  if (/^[A-Za-z0-9]$/.test(char)) return char;
  const hex = codePoint.toString(16).toUpperCase();
  return codePoint > 0xffff ? `\\U${hex.padStart(8, '0')}` : `\\u${hex.padStart(4, '0')}`;
}

/** A literal of the grammar's language. */
export function literal(text: string): string {
  return `"${Array.from(text, (char) => (/^[ !#-[\]-~]$/.test(char) ? char : escaped(char.codePointAt(0) as number))).join('')}"`;
}

/** `{min,max}` after an item; null for no upper end. */
export function times(item: string, min: number, max: number | null): string {
  if (max === 0) return '""';
  if (min === 1 && max === 1) return item;
  if (min === 0 && max === 1) return `${item}?`;
  if (max === null && min <= 1) return `${item}${min === 0 ? '*' : '+'}`;
  return max === null ? `${item}{${min},}` : `${item}{${min},${max}}`;
}
