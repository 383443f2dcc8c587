import { charNode, digits, sequence, textNode } from './nodes.ts';
import type { RegexNode } from './regex.ts';

/** Decimal numbers from `low` to `high`, both included and not negative, without leading zeros. */
function natural(low: bigint, high: bigint): RegexNode[] {
  const options: RegexNode[] = [];
  let from = low;
  for (let length = from.toString().length; from <= high; length += 1) {
    const last = 10n ** BigInt(length) - 1n;
    const to = last < high ? last : high;
    options.push(...sameLength(from.toString(), to.toString()));
    from = to + 1n;
  }
  return options;
}

/** Numbers of equally many digits, from one to another. */
function sameLength(low: string, high: string): RegexNode[] {
  const rest = low.length - 1;
  const [first, last] = [low.charCodeAt(0), high.charCodeAt(0)];
  if (rest === 0) return [charNode(first, last)];
  if (/^0*$/.test(low.slice(1)) && /^9*$/.test(high.slice(1))) return [sequence(charNode(first, last), digits(rest))];
  const headed = (digit: number, from: string, to: string): RegexNode[] =>
    sameLength(from, to).map((tail) => sequence(charNode(digit), tail));
  if (first === last) return headed(first, low.slice(1), high.slice(1));
  const between = first + 1 <= last - 1 ? [sequence(charNode(first + 1, last - 1), digits(rest))] : [];
  return [
    ...headed(first, low.slice(1), '9'.repeat(rest)),
    ...between,
    ...headed(last, '0'.repeat(rest), high.slice(1)),
  ];
}

/** Largest number of digits that a double holds exactly. */
const SAFE = 10n ** 15n - 1n;

/** Options for integers from `low` to `high`, both included; null for open ends. Empty when there are none. */
export function integerRange(low: bigint | null, high: bigint | null): RegexNode[] {
  const from = low === null || low < -SAFE ? -SAFE : low;
  const to = high === null || high > SAFE ? SAFE : high;
  const options: RegexNode[] = [];
  if (from < 0n && from <= to) {
    const least = to < 0n ? -to : 1n;
    options.push(...natural(least, -from).map((number) => sequence(textNode('-'), number)));
  }
  if (to >= 0n && from <= to) options.push(...natural(from > 0n ? from : 0n, to));
  return options;
}
