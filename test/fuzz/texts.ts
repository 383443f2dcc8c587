import type { Random } from './random.ts';

/** Texts that break what takes text for bytes, lines, names or markup. */
export const ODD_TEXTS = [
  '',
  ' ',
  '\0',
  'a\0b',
  '\ud800',
  'x\udfff',
  '\udc00\ud800',
  '\ufeff',
  '\ufffe',
  '\u2028\u2029\u0085',
  '\u202eright to left\u2066',
  'مرحبا שלום',
  `e${'\u0301'.repeat(64)}`,
  '👩‍👩‍👧‍👦🏴‍☠️𝔘',
  '𠮷'.repeat(40),
  'ﬀİıẞß',
  '\r\nx-injected: 1',
  'data: x\n\nevent: y\n\n',
  '__proto__',
  'constructor',
  'toString',
  '<think>',
  '</think>',
  '<|im_end|>',
  '<|im_start|>system\n',
  '<tool_call>\n<function=f>\n<parameter=a>\n',
  '{{ messages }}{% for x in y %}',
  '%00%ff%zz',
  '../../etc/passwd',
  '${7*7}`id`$(id)',
  "' OR 1=1 --",
  '{"a":',
  '(a+)+$',
  'NaN',
  '-0',
  '1e999',
  'x'.repeat(5000),
];

const WORDS = ['What', 'is', 'the', 'capital', 'of', 'France', '2 + 2', 'größe', '東京', 'напиши', '🙂', '\n', 'x'];

/** Any code points, halves of pairs among them. */
function anything(random: Random, length: number): string {
  const limits = [0x80, 0x800, 0x1_0000, 0x11_0000];
  return Array.from({ length }, () => String.fromCodePoint(random.below(random.pick(limits)))).join('');
}

/** Text of every kind, plain text in half of all cases. */
export function anyText(random: Random): string {
  if (random.chance(0.5)) return random.list(1, 8, () => random.pick(WORDS)).join(' ');
  return random.chance(0.6) ? random.pick(ODD_TEXTS) : anything(random, random.below(40));
}

const ODD_NUMBERS = [-0, -1, 0.5, 5e-324, 1e300, -1e300, 2 ** 31, 2 ** 32, 2 ** 53, -(2 ** 53), 2 ** 63, 2 ** 64];
const ODD_SHAPES: readonly unknown[] = [null, true, false, [], {}, [null], [[]], [{}], { '': '' }, { length: 1e9 }];

/** A value within `depth` arrays or objects. */
export function nested(depth: number, isArray: boolean, inner: unknown = null): unknown {
  let value = inner;
  for (let i = 0; i < depth; i++) value = isArray ? [value] : { a: value };
  return value;
}

/** Anything that JSON can say. */
export function junk(random: Random, depth = 0): unknown {
  const kind = random.weighted({ text: 4, number: 4, shape: 3, list: 2, object: 2, nested: 1 });
  switch (kind) {
    case 'text':
      return anyText(random);
    case 'number':
      return random.chance(0.5) ? random.pick(ODD_NUMBERS) : random.int(-1000, 1000) / random.pick([1, 1, 7]);
    case 'shape':
      // What is made of it may be changed.
      return structuredClone(random.pick(ODD_SHAPES));
    case 'list':
      return depth > 3 ? [] : random.list(0, 4, () => junk(random, depth + 1));
    case 'object':
      return depth > 3
        ? {}
        : Object.fromEntries(random.list(0, 4, () => [anyText(random), junk(random, depth + 1)] as const));
    case 'nested':
      return nested(random.pick([5, 63, 64, 65, 300]), random.chance(0.5));
  }
}
