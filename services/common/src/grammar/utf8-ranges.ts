import type { CharSet } from './ebnf.ts';

/** Ranges of bytes, one after the other: a part of a set of characters as UTF-8 spells it. */
export type ByteSequence = readonly (readonly [number, number])[];

/** Last code points of one, two, three and four bytes. */
const LASTS = [0x7f, 0x7ff, 0xffff, 0x10ffff];
const LEADS = [0, 0xc0, 0xe0, 0xf0];

/** A set of characters as sequences of byte ranges, each of which spells all of its combinations. */
export function utf8Ranges(set: CharSet): ByteSequence[] {
  return set.flatMap(([low, high]) =>
    LASTS.flatMap((last, i) => {
      const first = i === 0 ? 0 : (LASTS[i - 1] as number) + 1;
      const [from, to] = [Math.max(low, first), Math.min(high, last)];
      return from > to ? [] : split(from, to, i);
    }),
  );
}

/** Characters from one to another, all of 1 + `more` bytes. */
function split(from: number, to: number, more: number): ByteSequence[] {
  if (more === 0) return [[[from, to]]];
  for (let level = 1; level <= more; level++) {
    const mask = 2 ** (6 * level) - 1;
    if (Math.floor(from / (mask + 1)) === Math.floor(to / (mask + 1))) continue;
    // The last bytes of either end do not take all of their values: cut there.
    if (from % (mask + 1) !== 0) {
      const cut = from - (from % (mask + 1)) + mask;
      return [...split(from, cut, more), ...split(cut + 1, to, more)];
    }
    if (to % (mask + 1) !== mask) {
      const cut = to - (to % (mask + 1));
      return [...split(from, cut - 1, more), ...split(cut, to, more)];
    }
  }
  return [Array.from({ length: more + 1 }, (_, i) => [byteOf(from, i, more), byteOf(to, i, more)] as const)];
}

/** Byte `index` of a character of 1 + `more` bytes. */
function byteOf(code: number, index: number, more: number): number {
  const bits = Math.floor(code / 2 ** (6 * (more - index)));
  return index === 0 ? (LEADS[more] as number) | bits : 0x80 | (bits & 0x3f);
}
